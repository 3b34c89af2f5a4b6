"""A small app for tests: `/` answers with its name, `BACKEND_URL`'s answer behind it; `/crash` ends the process."""

import json
import os
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/crash":
            os._exit(3)
        answer = {"pod": os.environ["POD_NAME"], "color": os.environ.get("COLOR", "")}
        if (backend := os.environ.get("BACKEND_URL")) and self.path == "/":
            with urllib.request.urlopen(backend, timeout=5) as response:
                answer["backend"] = json.load(response)
        body = json.dumps(answer).encode()
        self.send_response(503 if self.path == "/health" and os.environ.get("NEVER_READY") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        sys.stdout.write(f"{self.command} {self.path}\n")


if __name__ == "__main__":
    ThreadingHTTPServer((os.environ["HOST"], int(sys.argv[1])), Handler).serve_forever()
