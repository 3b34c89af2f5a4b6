"""Messages that many transcripts begin and end with: a request, its answer, and what the sidecar makes of them."""

from __future__ import annotations

TO_APP = '{match: {prefix: "/"}, route: {cluster: app}}'
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
SENT = (
    b"GET /x HTTP/1.1\r\nHost: a\r\nx-forwarded-proto: http\r\nx-request-id: I\r\n"
    b"x-envoy-expected-rq-timeout-ms: 15000\r\n\r\n"
)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
GOT = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-envoy-upstream-service-time: T\r\ndate: D\r\nserver: envoy\r\n\r\nhi"


def local(status: str, body: str = "", *, close: bool = False) -> bytes:
    """A local reply as the proxy writes it."""
    head = f"HTTP/1.1 {status}\r\n"
    head += f"content-length: {len(body)}\r\ncontent-type: text/plain\r\n" if body else ""
    head += "date: D\r\nserver: envoy\r\n" + ("connection: close\r\n" if close else "")
    return (head + ("" if body else "content-length: 0\r\n") + "\r\n" + body).encode()
