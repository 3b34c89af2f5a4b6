"""An HTTP/2 connection of either role: frames, bodies and header blocks in (RFC 9113 sections 4 to 8).

One flat loop takes every frame of a read. What a header block means is the role's affair (`server`, `client`); what
goes out, and flow control, is `sending`; what concerns no message is `control`. The protocol's state is small: a stream
is open while it is in `streams`, half-closed by `local_done` or `remote_done`, and closed after.
"""

from __future__ import annotations

from mesh.proxy.http1.head import Head
from mesh.proxy.http2 import errors, frames
from mesh.proxy.http2.control import Control
from mesh.proxy.http2.decoder import Decoder
from mesh.proxy.http2.errors import ConnectionBroke, MessageBroke
from mesh.proxy.http2.fields import Field, Judge
from mesh.proxy.http2.heads import INVALID_MESSAGE, TOO_LARGE, TOO_MANY, WRONG_SIZE, trailers
from mesh.proxy.http2.options import DEFAULT_FRAME, DEFAULT_WINDOW, Http2Options
from mesh.proxy.http2.sending import Owner, StreamT
from mesh.proxy.http2.stats import Http2Stats

_MOST_CONTINUATIONS = 512  # of a header block, in Envoy's build of nghttp2


class Connection(Control[StreamT]):
    """Reads until it is broken."""

    __slots__ = (
        "_block_flags", "_block_number", "_connection_window", "_continuations", "_decoder", "_stream_window",
    )  # fmt: skip

    def __init__(
        self, owner: Owner, options: Http2Options, stats: Http2Stats, judge: Judge, *, is_client: bool
    ) -> None:
        Control.__init__(self, owner, options, stats, is_client=is_client)
        self._decoder = Decoder(judge, options.hpack_table_size)
        self._block_number = 0  # of the stream whose header block is not complete
        self._block_flags = 0
        self._continuations = 0
        self._stream_window = options.initial_stream_window_size
        self._connection_window = max(options.initial_connection_window_size, DEFAULT_WINDOW)
        self._greet()

    def _greet(self) -> None:
        options = self._options
        values = [(frames.HEADER_TABLE_SIZE, options.hpack_table_size)]
        if self._is_client:
            values.append((frames.ENABLE_PUSH, 0))
        else:
            values.append((frames.ENABLE_CONNECT_PROTOCOL, int(options.allow_connect)))
            values.append((frames.MAX_CONCURRENT_STREAMS, options.max_concurrent_streams))
        values.append((frames.INITIAL_WINDOW_SIZE, options.initial_stream_window_size))
        self._out.append((frames.PREFACE if self._is_client else b"") + frames.settings(values))
        if self._connection_window > DEFAULT_WINDOW:
            self._out.append(frames.window_update(0, self._connection_window - DEFAULT_WINDOW))

    # Reading

    @property
    def is_unfinished(self) -> bool:
        """Whether a frame or a header block has begun that is not complete."""
        return bool(self._buffer or self._block_number)

    def receive(self, data: bytes) -> None:
        """Take what was read. To be followed by `take`."""
        if self.error is not None:
            return
        self._is_awaited = True
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        try:
            if self._awaits_preface:
                data = self._preface(data)
            self._frames(data)
        except ConnectionBroke as error:
            self._break(error)
        self._is_awaited = bool(self._out)

    def _preface(self, data: bytes) -> bytes:
        """A client's connection preface and a first frame that is SETTINGS (RFC 9113 section 3.4); empty while more is
        needed.
        """
        expected = b"" if self._is_client else frames.PREFACE
        if not expected.startswith(data[: len(expected)]):
            raise ConnectionBroke(errors.PROTOCOL_ERROR, "bad preface")
        start = len(expected)
        if len(data) < start + frames.HEADER_SIZE:
            self._buffer = data
            return b""
        if data[start + 3] != frames.SETTINGS or data[start + 4] & frames.ACK:
            raise ConnectionBroke(errors.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        self._awaits_preface = False
        return data[start:]

    def _frames(self, data: bytes) -> None:
        at, size = 0, len(data)
        read_header = frames.read_header
        while size - at >= 9:
            high, low, kind, flags, number = read_header(data, at)
            start = at + 9
            at = start + (high << 8 | low)
            if at - start > DEFAULT_FRAME:
                raise ConnectionBroke(errors.FRAME_SIZE_ERROR, "too large frame size")
            if at > size:
                at = start - 9
                break
            number &= 0x7FFFFFFF
            if self._block_number and (kind != frames.CONTINUATION or number != self._block_number):
                raise ConnectionBroke(errors.PROTOCOL_ERROR, "unexpected non-CONTINUATION frame")
            if kind == frames.DATA:
                self._data(number, flags, data[start:at])
            elif kind == frames.HEADERS:
                self._headers(number, flags, data[start:at])
            elif kind <= frames.CONTINUATION:
                self._control(kind, number, flags, data[start:at])
            if self.error is not None:
                return
        if at < size:
            self._buffer = data[at:]

    # Bodies

    def _data(self, number: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        self._unacknowledged += size
        if self._unacknowledged > self._connection_window:
            raise ConnectionBroke(errors.FLOW_CONTROL_ERROR, "DATA: the connection's window is exceeded")
        stream = self.streams.get(number)
        if stream is None:
            self._check_not_idle(number, "DATA")
            self._consumed(size)
            return
        if stream.remote_done:
            raise ConnectionBroke(errors.STREAM_CLOSED, "DATA: stream in half-closed(remote)")
        stream.unacknowledged += size
        if stream.unacknowledged > self._stream_window:
            raise ConnectionBroke(errors.FLOW_CONTROL_ERROR, "DATA: the stream's window is exceeded")
        if flags & frames.PADDED:
            payload = _unpadded(payload, "DATA")
        done = bool(flags & frames.END_STREAM)
        if payload:
            self._empty = 0
        elif not done:
            self._empty_frame()
        if not stream.has_head:
            self._malformed(stream, MessageBroke(INVALID_MESSAGE))
            self._consumed(size)
            return
        if stream.expected >= 0:
            stream.expected -= len(payload)
            if stream.expected < 0 or (done and stream.expected):
                self._consumed(size)
                self.reset(stream, errors.PROTOCOL_ERROR)
                stream.broke(WRONG_SIZE)
                return
        if stream.is_paused:
            stream.held += size
        elif size:
            self._consumed(size)
            if not done and stream.unacknowledged >= self._stream_window >> 1:
                self._credit(stream)
        if done:
            self._remote_done(stream)
        if payload or done:
            stream.payload_received(payload, done)

    def _remote_done(self, stream: StreamT) -> None:
        stream.remote_done = True
        if stream.local_done:
            self._closed(stream)

    # Header blocks

    def _headers(self, number: int, flags: int, payload: bytes) -> None:
        if not number:
            raise ConnectionBroke(errors.PROTOCOL_ERROR, "HEADERS: stream_id == 0")
        if flags & (frames.PADDED | frames.PRIORITIZED):
            if flags & frames.PADDED:
                payload = _unpadded(payload, "HEADERS")
            if flags & frames.PRIORITIZED:
                payload = _without_priority(payload, number)
        if flags & frames.END_HEADERS:
            self._block_received(number, payload, bool(flags & frames.END_STREAM))
            return
        if not payload:
            self._empty_frame()
        self._decoder.begin(payload, self._options.max_headers, self._options.max_head)
        self._block_number = number
        self._block_flags = flags
        self._continuations = 0

    def _continuation(self, number: int, flags: int, payload: bytes) -> None:
        if not self._block_number:
            raise ConnectionBroke(errors.PROTOCOL_ERROR, "CONTINUATION: unexpected")
        if not payload and not flags & frames.END_HEADERS:
            self._empty_frame()
        self._continuations += 1
        if self._continuations > _MOST_CONTINUATIONS:
            raise ConnectionBroke(errors.PROTOCOL_ERROR, "CONTINUATION: too many")
        self._decoder.begin(payload, self._options.max_headers, self._options.max_head)
        if flags & frames.END_HEADERS:
            self._block_number = 0
            self._block_received(number, b"", bool(self._block_flags & frames.END_STREAM))

    def _block_received(self, number: int, block: bytes, done: bool) -> None:
        """A header block is complete; empty if it came in pieces, which the decoder has."""
        raise NotImplementedError

    def _too_large(self, fields: list[Field]) -> str:
        """Envoy's detail of a head that is over the limits in bytes or in number of fields; empty if it is not."""
        if len(fields) > self._options.max_headers:
            self.stats.header_overflow += 1
            return TOO_MANY
        if sum([field[5] for field in fields]) - 32 * len(fields) > self._options.max_head:
            self.stats.header_list_size_too_large += 1
            return TOO_LARGE
        return ""

    def _trailers(self, stream: StreamT, fields: list[Field], done: bool) -> None:
        try:
            if not done:
                raise MessageBroke(INVALID_MESSAGE)
            head: Head = trailers(fields)
        except MessageBroke as error:
            self._malformed(stream, error)
            return
        if too_large := self._too_large(fields):
            self.reset(stream, errors.INTERNAL_ERROR)
            stream.broke(too_large)
            return
        if stream.expected > 0:
            self.reset(stream, errors.PROTOCOL_ERROR)
            stream.broke(WRONG_SIZE)
            return
        self._remote_done(stream)
        stream.trailers_received(head)

    def _malformed(self, stream: StreamT, error: MessageBroke) -> None:
        """A message on an open stream is malformed. The stream is told last, when it can be said no more of it."""
        self.stats.rx_messaging_error += 1
        if self._options.stream_error_on_invalid_message:
            self.reset(stream, errors.PROTOCOL_ERROR)
            stream.broke(error.details)
            return
        self._closed(stream)
        stream.broke(error.details)
        raise ConnectionBroke(errors.PROTOCOL_ERROR, error.details)

    # Everything else

    def _control(self, kind: int, number: int, flags: int, payload: bytes) -> None:
        if kind == frames.WINDOW_UPDATE:
            self._window_update(number, payload)
        elif kind == frames.RST_STREAM:
            self._reset_received(number, payload)
        elif kind == frames.CONTINUATION:
            self._continuation(number, flags, payload)
        elif kind == frames.PRIORITY:
            self._priority(number, payload)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionBroke(errors.PROTOCOL_ERROR, "PUSH_PROMISE: push disabled")
        elif number:
            raise ConnectionBroke(errors.PROTOCOL_ERROR, "a connection's frame on a stream")
        elif kind == frames.SETTINGS:
            self._settings(flags, payload)
        elif kind == frames.PING:
            self._ping(flags, payload)
        else:
            if len(payload) < 8:
                raise ConnectionBroke(errors.FRAME_SIZE_ERROR, "GOAWAY: its size")
            last, code = frames.read_goaway(payload)
            self._goaway(last & 0x7FFFFFFF, code)


def _unpadded(payload: bytes, frame: str) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionBroke(errors.PROTOCOL_ERROR, f"{frame}: invalid padding")
    return payload[1 : len(payload) - payload[0]]


def _without_priority(payload: bytes, number: int) -> bytes:
    if len(payload) < 5:
        raise ConnectionBroke(errors.FRAME_SIZE_ERROR, "HEADERS: too small for its priority")
    if int.from_bytes(payload[:4], "big") & 0x7FFFFFFF == number:
        raise ConnectionBroke(errors.PROTOCOL_ERROR, "HEADERS: depend on itself")
    return payload[5:]
