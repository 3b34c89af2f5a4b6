"""Requests that a check sends itself, one record each."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import requests

MAX_BODY = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """What to send, to a path below the target's URL."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and what came of it. Times in seconds; `status` is 0 where no response came, and `error` says why."""

    request: Request
    start: float
    duration: float
    status: int
    headers: Mapping[str, str]
    body: str
    error: str = ""

    @property
    def served_by(self) -> str:
        """The pod that answered, as the app says in `x-served-by`; empty where a proxy answered."""
        return self.headers.get("x-served-by", "")

    def field(self, path: str) -> str:
        """A field of the JSON body, `a.b.0.c`; empty where there is none."""
        value: Any = self._json()
        for step in path.split("."):
            if isinstance(value, dict):
                value = value.get(step, "")
            elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
                value = value[int(step)]
            else:
                return ""
        return str(value)

    def _json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Sender:
    """Sends to one base URL, each thread over a connection of its own that it keeps."""

    def __init__(self, base_url: str, *, timeout_s: float = 30.0) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self._local = threading.local()
        self._sessions: list[requests.Session] = []

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions:
            session.close()

    def login(self, path: str, form: Mapping[str, str]) -> None:
        """Posts a login form on this thread's session, whose cookies go with its further requests."""
        response = self._session().post(
            self.base_url + path, data=dict(form), timeout=self.timeout_s, allow_redirects=False
        )
        response.raise_for_status()

    def send(self, request: Request) -> Sample:
        """Sends one request; whatever happens is in the sample, and nothing is retried."""
        start, began = time.time(), time.perf_counter()
        try:
            response = self._session().request(
                request.method,
                self.base_url + request.path,
                headers=dict(request.headers),
                timeout=self.timeout_s,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            return Sample(request, start, time.perf_counter() - began, 0, {}, "", f"{type(error).__name__}: {error}")
        headers = {name.lower(): value for name, value in response.headers.items()}
        took = time.perf_counter() - began
        return Sample(request, start, took, response.status_code, headers, response.text[:MAX_BODY])

    def send_all(self, wanted: Iterable[Request], *, concurrency: int, progress: Callable[[int], None]) -> list[Sample]:
        """Sends every request, `concurrency` at a time, and returns the samples in the order of the requests."""
        with ThreadPoolExecutor(concurrency, thread_name_prefix="sender") as pool:
            return list(_counted(pool.map(self.send, wanted), progress))

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            # The harness speaks to the mesh's edge: proxy variables of its own surroundings must not come between.
            session.trust_env = False
            self._sessions.append(session)
        return session


def _counted(samples: Iterator[Sample], progress: Callable[[int], None]) -> Iterator[Sample]:
    for count, sample in enumerate(samples, 1):
        progress(count)
        yield sample
