"""An app that does what it is told: `POST /` runs the Python source that it is sent, in its container, and answers with
its output. Besides it listens where no manifest says so: on 9999 for all, on 7777 for the pod alone."""

import os
import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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


if __name__ == "__main__":
    for address in (("0.0.0.0", 9999), ("127.0.0.1", 7777)):
        server = socketserver.ThreadingTCPServer(address, Tell)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ThreadingHTTPServer((os.environ["HOST"], int(sys.argv[1])), Handler).serve_forever()
