"""Servers of this host, on its loopback: what is outside of a mesh."""

import contextlib
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any


class Greeter(socketserver.BaseRequestHandler):
    """Speaks first, and answers with how much it was sent when it has heard the end of it."""

    def handle(self) -> None:
        self.request.sendall(b"hello")
        count = 0
        while data := self.request.recv(1 << 16):
            count += len(data)
        with contextlib.suppress(ConnectionError):  # nobody may listen any more
            self.request.sendall(str(count).encode())


class Threads(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 1024


class Web(BaseHTTPRequestHandler):
    """Answers with what it was asked; the server keeps count of it in `asked`."""

    protocol_version = "HTTP/1.1"
    server: "WebServer"

    def do_GET(self) -> None:
        asked = {"host": self.headers["Host"], "path": self.path, "server name": getattr(self.connection, "asked", "")}
        self.server.asked.append(self.path)
        body = json.dumps(asked).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class WebServer(Threads):
    """With TLS where `context` says so: then it tells which server name it was asked for."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Web)
        self.asked: list[str] = []
        self._context = context
        if context is not None:
            context.sni_callback = self._note

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread, so that no handshake keeps the others waiting."""
        if self._context is None:
            super().finish_request(request, client_address)
            return
        with self._context.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust us is what a test may be about."""

    @staticmethod
    def _note(connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        connection.asked = name or ""


@dataclass
class Outside:
    """Ports by what listens there. `unlisted` is one that nobody may reach."""

    web: WebServer
    secure: WebServer
    greeter: int
    unlisted: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def listed(self) -> list[int]:
        return [self.web.server_address[1], self.secure.server_address[1], self.greeter]


@contextlib.contextmanager
def outside(context: ssl.SSLContext) -> Iterator[Outside]:
    with WebServer() as web, WebServer(context) as secure, Threads(("127.0.0.1", 0), Greeter) as greeter:
        for server in (web, secure, greeter):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        found = Outside(web, secure, greeter.server_address[1])
        with found.unlisted:
            yield found
        for server in (web, secure, greeter):
            server.shutdown()
