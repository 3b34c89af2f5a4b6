"""Calls from one service to another, over connections kept alive per thread."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import requests
from requests.utils import get_environ_proxies

from .pod import SERVED_BY, SERVED_VERSION
from .settings import Settings

HTTP_PORT = 9080


@dataclass(frozen=True)
class Backend:
    """Where a service is, how long a call of it may take (seconds), and how many calls are tried."""

    name: str
    url: str
    timeout: float
    tries: int = 1

    @classmethod
    def read(cls, settings: Settings, name: str, timeout: float, tries: int = 1) -> Backend:
        """From <NAME>_HOSTNAME, <NAME>_SERVICE_PORT and SERVICES_DOMAIN, as Bookinfo names them.

        Kubernetes sets <NAME>_SERVICE_PORT too, to the first port of the Service; both mean the same number.
        """
        host = settings.text(f"{name.upper()}_HOSTNAME", name)
        domain = settings.text("SERVICES_DOMAIN", "")
        port = settings.integer(f"{name.upper()}_SERVICE_PORT", HTTP_PORT, 1, 65535)
        return cls(name, f"http://{host}{'.' if domain else ''}{domain}:{port}", timeout, tries)


@dataclass(frozen=True)
class Reply:
    """What came of a call: `body` is the decoded JSON of a 200, `failure` says in words why there is none.

    `status` is the backend's, or None where no answer came. `milliseconds` is the time of all tries.
    """

    status: int | None
    body: dict[str, Any] | None
    failure: str
    milliseconds: float
    served_by: str
    served_version: str

    @property
    def ok(self) -> bool:
        return self.body is not None

    @property
    def result(self) -> str:
        """The status as a metric's label; without one, the reason."""
        return str(self.status) if self.status is not None else self.failure


class Client:
    """Calls one backend from any thread."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._local = threading.local()
        self._proxies = get_environ_proxies(backend.url)

    def get(self, path: str, headers: dict[str, str]) -> Reply:
        """GET a JSON object. Answers of any status end it; only a call without an answer is tried again."""
        started = time.monotonic()
        for _ in range(self.backend.tries):
            outcome = self._try(path, headers)
            if isinstance(outcome, requests.Response):
                break
        return _reply(outcome, (time.monotonic() - started) * 1000)

    def _try(self, path: str, headers: dict[str, str]) -> requests.Response | str:
        try:
            return self._session().get(
                self.backend.url + path, headers=headers, timeout=self.backend.timeout, allow_redirects=False
            )
        except requests.Timeout:
            return "timeout"
        except requests.ConnectionError:
            return "connection failed"
        except requests.RequestException as error:
            return type(error).__name__

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            # The proxies were read at start; looking again for each request would also let ~/.netrc replace the
            # caller's authorization header.
            session.trust_env = False
            session.proxies.update(self._proxies)
        return session


def _reply(outcome: requests.Response | str, milliseconds: float) -> Reply:
    if isinstance(outcome, str):
        return Reply(None, None, outcome, milliseconds, "", "")
    body, failure = None, f"status {outcome.status_code}"
    if outcome.status_code == requests.codes.ok:
        body, failure = _object(outcome)
    served_by, served_version = (outcome.headers.get(name, "") for name in (SERVED_BY, SERVED_VERSION))
    return Reply(outcome.status_code, body, failure, milliseconds, served_by, served_version)


def _object(response: requests.Response) -> tuple[dict[str, Any] | None, str]:
    try:
        decoded = response.json()
    except requests.JSONDecodeError:
        return None, "not JSON"
    return (decoded, "") if isinstance(decoded, dict) else (None, "not a JSON object")
