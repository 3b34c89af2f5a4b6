"""Requests that a check sends itself, one record each."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests

from chaos.errors import CannotMeasure

MAX_BODY = 1 << 20
CHUNK = 1 << 16
PROGRESS_S = 0.2


@dataclass(frozen=True, slots=True)
class Request:
    """What to send, to a path below the target's URL."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and what came of it. Times in seconds; `status` is 0 where no response came, and `error` says why.

    Of a body longer than a mebibyte the rest is missing.
    """

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
    """Sends to one base URL, each thread over a connection of its own that it keeps. No request is sent twice.

    `timeout_s` bounds every wait for the network within a request.
    """

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
        url = self.base_url + path
        try:
            response = self._session().post(url, data=dict(form), timeout=self.timeout_s, allow_redirects=False)
            response.raise_for_status()
        except requests.RequestException as error:
            raise CannotMeasure(f"the login at {url} failed: {error}") from error

    def send(self, request: Request) -> Sample:
        """Sends one request; whatever happens is in the sample."""
        start, began = time.time(), time.monotonic()
        try:
            with self._session().request(
                request.method,
                self.base_url + request.path,
                headers=dict(request.headers),
                timeout=self.timeout_s,
                allow_redirects=False,
                stream=True,
            ) as response:
                body = _body(response)
        except requests.RequestException as error:
            return Sample(request, start, time.monotonic() - began, 0, {}, "", f"{type(error).__name__}: {error}")
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Sample(request, start, time.monotonic() - began, response.status_code, headers, body)

    def send_in_turn(self, wanted: Sequence[Request], within_s: float, progress: Callable[[str], None]) -> list[Sample]:
        """Sends one request after the other on this thread; CannotMeasure when time is up before the last one."""
        bounded = _Bounded(self, len(wanted), within_s, progress)
        return [bounded.send(request) for request in wanted]

    def send_all(
        self, wanted: Sequence[Request], *, concurrency: int, within_s: float, progress: Callable[[str], None]
    ) -> list[Sample]:
        """Sends every request, `concurrency` at a time, and returns the samples in the order of the requests.

        CannotMeasure when time is up before the last one was sent.
        """
        bounded = _Bounded(self, len(wanted), within_s, progress)
        with _threads(concurrency) as pool:
            return list(pool.map(bounded.send, wanted))

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            # The harness speaks to the mesh's edge: proxy variables of its own surroundings must not come between.
            session.trust_env = False
            self._sessions.append(session)
        return session


class _Bounded:
    """Sends for several threads until time is up, and tells how far they are."""

    def __init__(self, sender: Sender, total: int, within_s: float, progress: Callable[[str], None]) -> None:
        self._sender = sender
        self._total = total
        self._within_s = within_s
        self._deadline = time.monotonic() + within_s
        self._progress = progress
        self._lock = threading.Lock()
        self._done = 0
        self._told = 0.0

    def send(self, request: Request) -> Sample:
        if time.monotonic() > self._deadline:
            raise CannotMeasure(f"{self._done} of {self._total} requests were answered within {self._within_s:g} s")
        sample = self._sender.send(request)
        with self._lock:
            self._done += 1
            self._tell()
        return sample

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told > PROGRESS_S:
            self._told = now
            self._progress(f"{self._done}/{self._total} requests")


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for the length of the block; when it ends early, what has not begun never will."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="sender")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _body(response: requests.Response) -> str:
    parts: list[bytes] = []
    size = 0
    for chunk in response.iter_content(CHUNK):
        parts.append(chunk)
        size += len(chunk)
        if size >= MAX_BODY:
            break
    return b"".join(parts)[:MAX_BODY].decode(response.encoding or "utf-8", "replace")
