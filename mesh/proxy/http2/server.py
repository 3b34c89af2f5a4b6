"""The server's side of an HTTP/2 connection: requests come in."""

from __future__ import annotations

from typing import Protocol, TypeVar

from mesh.proxy.http1.head import RequestHead
from mesh.proxy.http2 import errors, frames
from mesh.proxy.http2.connection import Connection
from mesh.proxy.http2.errors import ConnectionBroke, MessageBroke, NotRoutable
from mesh.proxy.http2.fields import Field, request_field
from mesh.proxy.http2.heads import WRONG_SIZE, body_size, request_head
from mesh.proxy.http2.options import Http2Options
from mesh.proxy.http2.sending import Owner
from mesh.proxy.http2.stats import Http2Stats
from mesh.proxy.http2.stream import ServerStream

_LONGEST_BLOCK_KEPT = 1024
_MOST_BLOCKS_KEPT = 64


ServerStreamT = TypeVar("ServerStreamT", bound=ServerStream)
MadeStreamT_co = TypeVar("MadeStreamT_co", bound=ServerStream, covariant=True)


class ServerOwner(Owner, Protocol[MadeStreamT_co]):
    def new_stream(self) -> MadeStreamT_co:
        """The stream of a request that has come."""


class ServerConnection(Connection[ServerStreamT]):
    """`refuses_above` is the last stream that is still served after a GOAWAY of ours."""

    __slots__ = ("_new_stream", "refuses_above")

    def __init__(self, owner: ServerOwner[ServerStreamT], options: Http2Options, stats: Http2Stats) -> None:
        self._new_stream = owner.new_stream
        self.refuses_above = 2**31 - 1
        Connection.__init__(self, owner, options, stats, request_field, is_client=False)

    def highest_received(self) -> int:
        return self.last_received

    def announce_drain(self) -> None:
        """The first of two GOAWAYs (RFC 9113 section 6.8): it ends nothing yet, but asks for no more new streams."""
        self.send_goaway(errors.NO_ERROR, last=2**31 - 1)

    def finish_drain(self) -> None:
        """The second: what comes from now on is not looked at."""
        self.refuses_above = self.last_received
        self.stats.goaway_sent += 1
        self.send_goaway(errors.NO_ERROR)

    def unfinished_head(self) -> int:
        """The stream of a new request whose head has begun and is not complete; 0 for none."""
        number, begun = self._block_number, self._buffer
        if not number and not self._awaits_preface and len(begun) >= frames.HEADER_SIZE and begun[3] == frames.HEADERS:
            number = int.from_bytes(begun[5:9], "big") & 0x7FFFFFFF
        is_new = number & 1 and self.last_received < number <= self.refuses_above
        may_open = self.error is None and len(self.streams) < self._options.max_concurrent_streams
        return number if is_new and may_open else 0

    def give_up_head(self, number: int) -> ServerStreamT:
        """Open the stream of an `unfinished_head` as it is: what still comes of that is read for the tables alone."""
        self.last_received = number
        stream = self._new_stream()
        self._opened(stream, number)
        stream.has_head = True
        return stream

    def _block_received(self, number: int, block: bytes, done: bool) -> None:
        if number <= self.last_received:
            self._late_block(number, block, done)
            return
        if not number & 1:
            raise ConnectionBroke(errors.PROTOCOL_ERROR, "HEADERS: invalid stream_id")
        self.last_received = number
        if number > self.refuses_above:
            self._decoder.decode(block)
            return
        if len(self.streams) >= self._options.max_concurrent_streams:
            self._refuse(number, block)
            return
        stream = self._new_stream()
        self._opened(stream, number)
        stream.has_head = True
        self._empty = 0
        if done:
            stream.remote_done = True
        self._request(stream, block, done)

    def _refuse(self, number: int, block: bytes) -> None:
        """A stream too many. Who knows the limit breaks the protocol (nghttp2's judgement, and so Envoy's)."""
        if self._is_acknowledged:
            raise ConnectionBroke(errors.PROTOCOL_ERROR, "HEADERS: max concurrent streams exceeded")
        self._decoder.decode(block)
        self.stats.stream_refused_errors += 1
        self.stats.tx_reset += 1
        self._send_control(frames.reset(number, errors.REFUSED_STREAM))

    def _late_block(self, number: int, block: bytes, done: bool) -> None:
        """Trailers; or of a stream that is closed, which the peer may not know yet: only the tables take note."""
        fields = self._decoder.decode(block)
        stream = self.streams.get(number)
        if stream is None:
            return
        if stream.remote_done:
            raise ConnectionBroke(errors.STREAM_CLOSED, "HEADERS: stream in half-closed(remote)")
        self.stats.trailers += 1
        self._trailers(stream, fields, done)

    def _request(self, stream: ServerStreamT, block: bytes, done: bool) -> None:
        known = self._decoder.heads.get(block)
        if known is not None:
            # The same bytes against the same table: what they mean was found out before.
            assert isinstance(known, RequestHead)
            head = RequestHead(known.method, known.target, known.authority, known.lines.copy(), known.marked.copy())
            stream.head_received(head, done)
            return
        fields = self._decoder.decode(block)
        try:
            accepted = self._head(stream, fields, block, done)
        except MessageBroke as error:
            self._malformed(stream, error)
            return
        except NotRoutable as error:
            stream.head_refused(error.head, error.status, error.details)
            return
        if accepted is not None:
            stream.head_received(accepted, done)

    def _head(self, stream: ServerStreamT, fields: list[Field], block: bytes, done: bool) -> RequestHead | None:
        if too_large := self._too_large(fields):
            self.reset(stream, errors.INTERNAL_ERROR)
            stream.broke(too_large)
            return None
        head = request_head(fields, allow_connect=self._options.allow_connect)
        if b"content-length" in head.marked:
            size = body_size(head)
            if done and size:
                self.reset(stream, errors.PROTOCOL_ERROR)
                stream.broke(WRONG_SIZE)
                return None
            stream.expected = size
        elif 0 < len(block) <= _LONGEST_BLOCK_KEPT and len(self._decoder.heads) < _MOST_BLOCKS_KEPT:
            kept = RequestHead(head.method, head.target, head.authority, head.lines.copy(), head.marked.copy())
            self._decoder.heads[block] = kept
        return head
