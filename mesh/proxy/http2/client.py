"""The client's side of an HTTP/2 connection: responses come in."""

from __future__ import annotations

from typing import TypeVar

from mesh.proxy.http1.head import RequestHead
from mesh.proxy.http2 import errors
from mesh.proxy.http2.connection import Connection
from mesh.proxy.http2.errors import ConnectionBroke, MessageBroke
from mesh.proxy.http2.fields import Field, response_field
from mesh.proxy.http2.heads import INVALID_MESSAGE, WRONG_SIZE, body_size, response_head
from mesh.proxy.http2.options import Http2Options
from mesh.proxy.http2.sending import Owner
from mesh.proxy.http2.stats import Http2Stats
from mesh.proxy.http2.stream import ClientStream

_LAST_NUMBER = 2**31 - 1


ClientStreamT = TypeVar("ClientStreamT", bound=ClientStream)


class ClientConnection(Connection[ClientStreamT]):
    """`is_going_away` says that the peer takes no new streams."""

    __slots__ = ("is_going_away",)

    def __init__(self, owner: Owner, options: Http2Options, stats: Http2Stats) -> None:
        self.is_going_away = False
        Connection.__init__(self, owner, options, stats, response_field, is_client=True)

    def highest_received(self) -> int:
        return 0  # we take no pushed streams

    def may_open(self) -> bool:
        """Whether the connection takes one more request now."""
        return (
            not self.is_going_away
            and self.error is None
            and len(self.streams) < min(self.peer_max_streams, self._options.max_concurrent_streams)
            and self._last_opened < _LAST_NUMBER - 2
        )

    def send_request(self, stream: ClientStreamT, head: RequestHead, scheme: bytes, done: bool) -> None:
        """Open the stream with a request's head."""
        number = self._last_opened = self._last_opened + 2 if self._last_opened else 1
        self._opened(stream, number)
        stream.is_to_head = head.method == b"HEAD"
        self._send_block(number, self._encoder.encode(_lines(head, scheme)), done)
        if done:
            stream.local_done = True

    def _goaway(self, last: int, code: int) -> None:
        self.is_going_away = True
        for stream in [stream for number, stream in self.streams.items() if number > last]:
            self._closed(stream)
            stream.refused()
        self._owner.goaway_received(last, code)

    def _reset_received(self, number: int, payload: bytes) -> None:
        stream = self.streams.get(number)
        if stream is not None and payload == b"\x00\x00\x00\x07":
            self.stats.rx_reset += 1
            self._closed(stream)
            stream.refused()
            return
        Connection._reset_received(self, number, payload)

    def _block_received(self, number: int, block: bytes, done: bool) -> None:
        fields = self._decoder.decode(block)
        self._empty = 0
        stream = self.streams.get(number)
        if stream is None:
            self._check_not_idle(number, "HEADERS")
            return
        if stream.remote_done:
            raise ConnectionBroke(errors.STREAM_CLOSED, "HEADERS: stream in half-closed(remote)")
        if stream.has_head:
            self._trailers(stream, fields, done)
        else:
            self._response(stream, fields, done)

    def _response(self, stream: ClientStreamT, fields: list[Field], done: bool) -> None:
        if too_large := self._too_large(fields):
            self.reset(stream, errors.INTERNAL_ERROR)
            stream.broke(too_large)
            return
        try:
            head = response_head(fields)
            if head.status < 200:
                if done:
                    raise MessageBroke(INVALID_MESSAGE)
                stream.informational_received(head)
                return
            size = body_size(head)
        except MessageBroke as error:
            self._malformed(stream, error)
            return
        stream.has_head = True
        if not stream.is_to_head and head.status != 304:
            if done and size > 0:
                self.reset(stream, errors.PROTOCOL_ERROR)
                stream.broke(WRONG_SIZE)
                return
            stream.expected = size
        if done:
            self._remote_done(stream)
        stream.head_received(head, done)


def _lines(head: RequestHead, scheme: bytes) -> list[bytes]:
    lines = [b":method: %b" % head.method, b":authority: %b" % head.authority]
    marked = head.marked
    if head.method == b"CONNECT" and b"upgrade" not in marked:
        pass  # RFC 9113 section 8.5: neither scheme nor path
    else:
        lines += (b":scheme: %b" % scheme, b":path: %b" % head.target)
        if head.method == b"CONNECT":
            lines.append(b":protocol: %b" % marked[b"upgrade"])
    lines += head.lines
    return lines
