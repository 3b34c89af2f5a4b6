"""Error codes of HTTP/2 (RFC 9113 section 7), and what ends a connection or a stream."""

from __future__ import annotations

from mesh.proxy.http1.head import RequestHead

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
SETTINGS_TIMEOUT = 0x4
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
CONNECT_ERROR = 0xA
ENHANCE_YOUR_CALM = 0xB
INADEQUATE_SECURITY = 0xC
HTTP_1_1_REQUIRED = 0xD


class ConnectionBroke(Exception):
    """The peer broke the protocol in a way that ends the connection. `details` is Envoy's response code detail."""

    def __init__(self, code: int, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class MessageBroke(Exception):
    """A malformed message: by Envoy's default it ends the connection, with the option it ends its stream."""

    def __init__(self, details: str) -> None:
        super().__init__(details)
        self.details = details


class NotRoutable(Exception):
    """A well-formed request that is answered at once: no route can be asked for its path."""

    def __init__(self, head: RequestHead, status: int, details: str) -> None:
        super().__init__(details)
        self.head = head
        self.status = status
        self.details = details


class HpackBroke(ConnectionBroke):
    """A header block that cannot be decoded: both sides' tables differ from here on."""

    def __init__(self, what: str) -> None:
        super().__init__(COMPRESSION_ERROR, f"http2.hpack: {what}")
