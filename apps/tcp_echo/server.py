"""A line in, the same line behind a word out."""

from __future__ import annotations

import signal
import socketserver
from typing import Never

from .config import Config

MAX_LINE = 64 * 1024


class _Echo(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        try:
            while line := self.rfile.readline(MAX_LINE):
                self.wfile.write(self.server.prefix + b" " + line)
        except ConnectionError:
            return  # the client needs no answer any more


class Server(socketserver.ThreadingTCPServer):
    """Serves connections, each in a thread of its own, until it is shut down."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, config: Config) -> None:
        self.prefix = config.prefix.encode()
        super().__init__((config.host, config.port), _Echo)


def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT. Prints one line when it listens."""
    with Server(config) as server:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        host, port = server.server_address[:2]
        print(f"tcp_echo listens on {host!s}:{port}", flush=True)  # noqa: T201
        server.serve_forever()


def _stop(*_: object) -> Never:
    raise SystemExit(0)
