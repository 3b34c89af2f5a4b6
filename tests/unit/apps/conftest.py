"""Real peers for the services under test: HTTP servers that answer as told, and services as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from apps.common.backend import Backend

BOUND = 20.0


class Peer:
    """A backend on loopback. It answers every request with `status` and `body`, or keeps it waiting while `held`."""

    def __init__(self, status: int = 200, body: object = None, headers: dict[str, str] | None = None) -> None:
        self.status, self.body, self.headers = status, body, headers or {}
        self.seen: list[tuple[str, Message]] = []
        self.held = False
        self._arrival = threading.Condition()
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def backend(self, name: str, timeout: float = BOUND, tries: int = 1) -> Backend:
        return Backend(name, f"http://127.0.0.1:{self.port}", timeout, tries)

    def calls(self, at_least: int) -> int:
        """How many requests came; waits for as many as are expected, as a caller may give up before they are read."""
        with self._arrival:
            self._arrival.wait_for(lambda: len(self.seen) >= at_least, BOUND)
            return len(self.seen)

    def release(self) -> None:
        self.held = False
        self._released.set()

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(BOUND)

    def _handler(peer) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with peer._arrival:
                    peer.seen.append((self.path, self.headers))
                    peer._arrival.notify_all()
                if peer.held:
                    peer._released.wait(BOUND)
                with suppress(ConnectionError):  # the caller may have given up
                    self.answer()

            def answer(self) -> None:
                content = peer.body if isinstance(peer.body, bytes) else json.dumps(peer.body).encode()
                self.send_response(peer.status)
                for name, value in {"content-length": str(len(content)), **peer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def peers() -> Iterator[type[Peer]]:
    """Makes peers, and closes them at the end."""
    with ExitStack() as stack:

        def make(*args: object, **kwargs: object) -> Peer:
            peer = Peer(*args, **kwargs)  # type: ignore[arg-type]
            stack.callback(peer.close)
            return peer

        yield make  # type: ignore[misc]


class Service:
    """A service as its users run it: `python -m apps.<name>`, on a port that the system chose."""

    def __init__(self, name: str, **environ: object) -> None:
        quiet = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"apps.{name}"],
            env=quiet | {"HOST": "127.0.0.1", "PORT": "0"} | {key: str(value) for key, value in environ.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.url = ""

    def start(self) -> Service:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert " listens on http://" in line, line + self.process.stdout.read()
        self.url = line.split()[-1]
        return self

    def end(self) -> tuple[int, str]:
        """Wait for the end; exit code and what it printed since the start."""
        output, _ = self.process.communicate(timeout=BOUND)
        return self.process.returncode, output

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=BOUND)


@pytest.fixture
def services() -> Iterator[type[Service]]:
    """Makes services, and kills those that are left at the end."""
    with ExitStack() as stack:

        def make(name: str, **environ: object) -> Service:
            service = Service(name, **environ)
            stack.callback(service.close)
            return service

        yield make  # type: ignore[misc]
