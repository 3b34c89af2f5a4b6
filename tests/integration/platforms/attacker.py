"""An app that does what it is told: `POST /` runs the Python source that it is sent, in its container, and answers with
its output. Besides it listens where no manifest says so: on 9999 and 15008 for all, on 7777 for the pod alone; and it
keeps who sent it which datagrams to 9998, and tells that to whom asks."""

import json
import os
import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

SECRET = b"the app itself"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(SECRET)

    def do_POST(self) -> None:
        source = self.rfile.read(int(self.headers["Content-Length"]))
        done = subprocess.run(
            [sys.executable, "-"],
            input=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=40,
            check=False,
        )
        self._answer(done.stdout)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Tell(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if self.request.recv(1):
            self.request.sendall(SECRET)


class Hear(socketserver.BaseRequestHandler):
    heard: ClassVar[list[list[str]]] = []

    def handle(self) -> None:
        data, sock = self.request
        if data == b"?":
            sock.sendto(json.dumps(self.heard).encode(), self.client_address)
        else:
            self.heard.append([self.client_address[0], data.decode()])


if __name__ == "__main__":
    servers = [
        *(socketserver.ThreadingTCPServer(("0.0.0.0", port), Tell) for port in (9999, 15008)),
        socketserver.ThreadingTCPServer(("127.0.0.1", 7777), Tell),
        socketserver.UDPServer(("0.0.0.0", 9998), Hear),
    ]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ThreadingHTTPServer((os.environ["HOST"], int(sys.argv[1])), Handler).serve_forever()
