"""The WSGI server: waitress, with each response in one write and a drain at SIGTERM."""

from __future__ import annotations

import logging
import signal
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, WSGITask

from .settings import Settings

CONNECTION_LIMIT = 1000
# Longer than the hour that Istio's sidecars keep an idle connection: the client closes first, so that it never sends
# a request into a connection that is being closed.
IDLE_SECONDS = 2 * 3600


@dataclass(frozen=True)
class Listen:
    """Where to listen, with how many threads, and how long (seconds) requests in flight may take at the end."""

    host: str
    port: int
    threads: int
    drain_seconds: float

    @classmethod
    def read(cls, settings: Settings, threads: int) -> Listen:
        """From HOST, PORT (0 lets the system choose), THREADS and DRAIN_SECONDS."""
        return cls(
            host=settings.text("HOST", "0.0.0.0"),  # noqa: S104  # the pod's network is the boundary
            port=settings.integer("PORT", 9080, 0, 65535),
            threads=settings.integer("THREADS", threads, 1, 1000),
            drain_seconds=settings.number("DRAIN_SECONDS", 10, 0, 600),
        )


class _OneWrite:
    """Sends a response when it is whole.

    Waitress writes the head, then the body. Under keep-alive the client's delayed acknowledgement can then hold the
    body back by 40 ms, and where TCP_NODELAY prevents that, each response still costs two packets. Bookinfo's
    responses are small and never streamed, so holding them costs nothing.
    """

    channel: Any

    def build_response_header(self) -> bytes:
        if self.channel.server.stopping:
            self.set_close_on_finish()  # type: ignore[attr-defined]
        head: bytes = super().build_response_header()  # type: ignore[misc]
        return head

    def finish(self) -> None:
        super().finish()  # type: ignore[misc]
        self.channel.send_held()


class _Task(_OneWrite, WSGITask):  # type: ignore[misc]
    pass


class _ErrorTask(_OneWrite, ErrorTask):  # type: ignore[misc]
    pass


class _Channel(HTTPChannel):  # type: ignore[misc]
    task_class = _Task
    error_task_class = _ErrorTask

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._held: list[bytes] = []
        super().__init__(*args, **kwargs)

    def write_soon(self, data: bytes) -> int:
        self._held.append(data)
        return len(data)

    def send_held(self) -> None:
        response = b"".join(self._held)
        self._held.clear()
        super().write_soon(response)

    @property
    def is_idle(self) -> bool:
        return not self.requests and self.request is None and not self.total_outbufs_len


class Server(TcpWSGIServer):  # type: ignore[misc]
    """Serves an application until it is stopped, then finishes the requests in flight."""

    channel_class = _Channel

    def __init__(self, app: Flask, listen: Listen) -> None:
        self.stopping = False
        self._drain_seconds = listen.drain_seconds
        adjustments = Adjustments(
            host=listen.host,
            port=listen.port,
            threads=listen.threads,
            ident=None,
            connection_limit=CONNECTION_LIMIT,
            channel_timeout=IDLE_SECONDS,
            clear_untrusted_proxy_headers=False,
        )
        super().__init__(app, map={}, adj=adjustments)

    @property
    def url(self) -> str:
        return f"http://{self.effective_host}:{self.effective_port}"

    def stop(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """End `run` once the requests in flight are answered. Safe in a signal handler."""
        self.stopping = True
        self.pull_trigger()

    def run(self) -> None:
        while not self.stopping:
            wasyncore.poll2(1.0, self._map)
        self._stop_listening()
        deadline = time.monotonic() + self._drain_seconds
        while self.active_channels and time.monotonic() < deadline:
            for channel in list(self.active_channels.values()):
                channel.will_close = channel.will_close or channel.is_idle
            wasyncore.poll2(0.1, self._map)

    def _stop_listening(self) -> None:
        self.accepting = False
        self.del_channel()
        self.socket.close()


def serve(app: Flask, listen: Listen, name: str) -> None:
    """Serve until SIGTERM or SIGINT. Prints one line when it listens."""
    # A queue is what load makes; a line for each request in it would drown the log.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = Server(app, listen)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.stop)
    print(f"{name} listens on {server.url}", flush=True)  # noqa: T201
    server.run()
