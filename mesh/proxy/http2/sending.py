"""What an HTTP/2 connection writes: heads, payload within the peer's windows, credit for ours.

Flow control is RFC 9113 section 5.2.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from mesh.proxy.http2 import errors, frames
from mesh.proxy.http2.encoder import Encoder
from mesh.proxy.http2.errors import ConnectionBroke
from mesh.proxy.http2.options import DEFAULT_FRAME, DEFAULT_WINDOW, MAX_WINDOW, Http2Options
from mesh.proxy.http2.stats import Http2Stats
from mesh.proxy.http2.stream import Stream

StreamT = TypeVar("StreamT", bound=Stream)


class Owner(Protocol):
    """Who holds the connection and does its I/O: what the codec tells of the connection as a whole."""

    def output_pending(self) -> None:
        """There is something to `take`, and nobody is about to."""

    def is_drained(self) -> bool:
        """Whether the transport takes more (no `pause_writing` is in force)."""

    def settings_received(self) -> None: ...

    def ping_acknowledged(self, opaque: bytes) -> None: ...

    def goaway_received(self, last: int, code: int) -> None: ...

    def connection_broke(self, error: ConnectionBroke) -> None: ...


class Sending(Generic[StreamT]):
    """Base of `Connection`. Windows count bytes; `streams` are the open ones by number."""

    __slots__ = (
        "_control_out", "_encoder", "_frames_out", "_initial_window", "_is_awaited", "_last_opened", "_max_frame",
        "_options", "_out", "_owner", "_returnable", "_unacknowledged", "_waiting", "data_frames_sent",
        "opened", "peer_max_streams", "send_window", "stats", "streams",
    )  # fmt: skip

    _stream_window: int
    _connection_window: int
    _is_client: bool

    def __init__(self, owner: Owner, options: Http2Options, stats: Http2Stats, not_sent: frozenset[bytes]) -> None:
        self._owner = owner
        self._options = options
        self.stats = stats
        self.streams: dict[int, StreamT] = {}
        self.send_window = DEFAULT_WINDOW
        self.peer_max_streams = 2**31 - 1
        self.opened = 0  # streams ever opened
        self.data_frames_sent = 0
        self._encoder = Encoder(options.hpack_table_size, not_sent)
        self._initial_window = DEFAULT_WINDOW  # of the streams that we send on
        self._max_frame = DEFAULT_FRAME
        self._last_opened = 0
        self._out: list[bytes | memoryview] = []
        self._is_awaited = True  # somebody is going to take the output
        # Streams whose payload waits for the connection's credit, the next one first. One that turns out to wait for
        # credit of its own leaves until that comes.
        self._waiting: OrderedDict[int, StreamT] = OrderedDict()
        self._unacknowledged = 0
        self._returnable = 0  # of it, what has been consumed
        self._frames_out = 0
        self._control_out = 0

    def take(self) -> bytes:
        """All that is to be written."""
        out = self._out
        self._is_awaited = False
        if not out:
            return b""
        wire = b"".join(out)
        out.clear()
        return wire

    # What users say

    def send_head(self, stream: StreamT, lines: Iterable[bytes], done: bool) -> None:
        """The head of a message, or its trailers (`done`): pseudo headers first."""
        if stream.is_closed or stream.local_done:
            return
        self._send_block(stream.number, self._encoder.encode(lines), done)
        if done:
            self._local_done(stream)

    def send_payload(self, stream: StreamT, payload: bytes, done: bool) -> None:
        """More of the body. What the peer's windows do not allow waits in the stream."""
        size = len(payload)
        if stream.is_closed or not (size or done) or stream.local_done:
            return
        if stream.waiting is None and (
            not size or (size <= stream.send_window and size <= self.send_window and size <= self._max_frame)
        ):
            stream.send_window -= size
            self.send_window -= size
            self._put_data(stream, payload, done)
            return
        self._wait(stream, payload, done)

    def send_trailers(self, stream: StreamT, lines: list[bytes]) -> None:
        """The end of the message, after the payload that waits."""
        if stream.is_closed:
            return
        if stream.waiting is not None:
            stream.trailers_wait = lines
        else:
            self.send_head(stream, lines, True)

    def reset(self, stream: StreamT, code: int) -> None:
        """End the stream at once. It is told nothing more."""
        if stream.is_closed:
            return
        self.stats.tx_reset += 1
        self._closed(stream)
        self._send_control(frames.reset(stream.number, code))

    def send_ping(self, opaque: bytes) -> None:
        self._send_control(frames.ping(opaque))

    def send_goaway(self, code: int, debug: bytes = b"", last: int = -1) -> None:
        """Say that streams above `last` will not be looked at; by default those that have not come yet."""
        self._put(frames.goaway(self.highest_received() if last < 0 else last, code, debug))

    def highest_received(self) -> int:
        """The last stream of the peer's that we have looked at."""
        raise NotImplementedError

    def close(self, code: int, details: str) -> None:
        raise NotImplementedError

    def pause(self, stream: StreamT) -> None:
        """Give the peer no more credit on this stream."""
        stream.is_paused = True

    def resume(self, stream: StreamT) -> None:
        """Give the credit that was held back, and go on."""
        stream.is_paused = False
        if stream.is_closed:
            return
        held, stream.held = stream.held, 0
        self._consumed(held)
        if not stream.remote_done and stream.unacknowledged >= self._stream_window >> 1:
            self._credit(stream)

    # Output

    def _put(self, frame: bytes | memoryview) -> None:
        self._out.append(frame)
        if not self._is_awaited:
            self._is_awaited = True
            self._owner.output_pending()

    def _put_frame(self, header: bytes, payload: bytes | memoryview) -> None:
        self._out.append(header)
        self._out.append(payload)
        if not self._is_awaited:
            self._is_awaited = True
            self._owner.output_pending()
        self._frames_out += 1
        if self._frames_out > self._options.max_outbound_frames:
            self._check_drained()

    def count_from_here(self) -> None:
        """The transport takes no more for now. A peer that does not read what it asks for is a flood: what counts is
        how many frames join those that wait for it.
        """
        self._frames_out = self._control_out = 0

    def _check_drained(self) -> None:
        """Too much was said since somebody looked; it is too much only if it has not left."""
        if self._owner.is_drained():
            self._frames_out = len(self._out)
            self._control_out = min(self._control_out, len(self._out))
        if self._control_out > self._options.max_outbound_control_frames:
            self.stats.outbound_control_flood += 1
            self.close(errors.ENHANCE_YOUR_CALM, "http2.outbound_control_flood")
        elif self._frames_out > self._options.max_outbound_frames:
            self.stats.outbound_flood += 1
            self.close(errors.ENHANCE_YOUR_CALM, "http2.outbound_frames_flood")

    def _send_control(self, frame: bytes) -> None:
        self._control_out += 1
        if self._control_out > self._options.max_outbound_control_frames:
            self._check_drained()
        self._put(frame)

    def _send_block(self, number: int, block: bytes, done: bool) -> None:
        size, limit = len(block), self._max_frame
        if size <= limit:
            self._put_frame(frames.header(size, frames.HEADERS, frames.END_HEADERS | done, number), block)
            return
        kind, flags = frames.HEADERS, int(done)
        for at in range(0, size, limit):
            piece = block[at : at + limit]
            if at + limit >= size:
                flags |= frames.END_HEADERS
            self._put_frame(frames.header(len(piece), kind, flags, number), piece)
            kind, flags = frames.CONTINUATION, 0

    def _put_data(self, stream: StreamT, payload: bytes | memoryview, done: bool) -> None:
        self.data_frames_sent += 1
        self._put_frame((len(payload) << 48 | done << 32 | stream.number).to_bytes(9, "big"), payload)
        if done:
            self._local_done(stream)

    def _local_done(self, stream: StreamT) -> None:
        stream.local_done = True
        if stream.is_closed:
            return  # its last frame was one too many for a peer that does not read: the connection is broken
        if stream.remote_done:
            self._closed(stream)
        elif not self._is_client:
            # The response is complete and nobody will read the rest of the request (RFC 9113 section 8.1).
            self.reset(stream, errors.NO_ERROR)

    def _opened(self, stream: StreamT, number: int) -> None:
        stream.number = number
        stream.send_window = self._initial_window
        self.streams[number] = stream
        self.opened += 1
        self.stats.streams_active += 1

    def _closed(self, stream: StreamT) -> None:
        stream.is_closed = True
        self.stats.streams_active -= 1
        del self.streams[stream.number]
        if stream.waiting is not None:
            stream.waiting = None
            self._waiting.pop(stream.number, None)
        if stream.held:
            held, stream.held = stream.held, 0
            self._consumed(held)

    # Payload that waits for credit

    def _wait(self, stream: StreamT, payload: bytes, done: bool) -> None:
        if stream.waiting is None:
            stream.waiting = deque()
            self._waiting[stream.number] = stream
        if payload:
            stream.waiting.append(memoryview(payload))
            stream.waiting_size += len(payload)
        stream.end_waits = done
        self._send_on(stream)
        if stream.waiting_size > self._options.buffer_limit and not stream.is_stopped and not stream.is_closed:
            stream.is_stopped = True
            stream.write_blocked()

    def _send_on(self, stream: StreamT) -> None:
        """All that the windows allow of one stream: what another waits for has not changed."""
        while stream.waiting is not None and self._send_some(stream):
            pass

    def _send_waiting(self) -> None:
        """One frame a stream in turn, for as long as the windows allow."""
        waiting = self._waiting
        while waiting and self.send_window > 0:
            # No list of them all: a peer may give credit byte by byte to a thousand streams.
            number, stream = next(iter(waiting.items()))
            if stream.send_window <= 0:
                del waiting[number]
                continue
            waiting.move_to_end(number)
            self._send_some(stream)

    def _send_some(self, stream: StreamT) -> bool:
        waiting = stream.waiting
        assert waiting is not None
        if waiting:
            first = waiting[0]
            size = min(len(first), stream.send_window, self.send_window, self._max_frame)
            if size <= 0:
                return False
            stream.send_window -= size
            self.send_window -= size
            stream.waiting_size -= size
            if size < len(first):
                waiting[0] = first[size:]
            else:
                waiting.popleft()
            piece = first[:size]
        else:
            piece = memoryview(b"")
        if not waiting:
            self._waited(stream)
        if piece or stream.end_waits:
            self._put_data(stream, piece, stream.end_waits and not waiting)
        if not waiting and stream.trailers_wait is not None:
            self.send_head(stream, stream.trailers_wait, True)
        if stream.is_stopped and not stream.is_closed and stream.waiting_size <= self._options.buffer_limit >> 1:
            stream.is_stopped = False
            stream.write_unblocked()
        return True

    def _waited(self, stream: StreamT) -> None:
        """Nothing waits any more."""
        stream.waiting = None
        self._waiting.pop(stream.number, None)

    def _resize_windows(self, initial: int) -> None:
        """The peer's SETTINGS_INITIAL_WINDOW_SIZE, which moves the windows of open streams too; they may go below 0."""
        change, self._initial_window = initial - self._initial_window, initial
        for stream in self.streams.values():
            stream.send_window += change
            if stream.send_window > MAX_WINDOW:
                raise ConnectionBroke(errors.FLOW_CONTROL_ERROR, "SETTINGS: INITIAL_WINDOW_SIZE")
        if change > 0:
            for number, stream in self.streams.items():
                if stream.waiting is not None:
                    self._waiting[number] = stream
            self._send_waiting()

    # Credit for the peer

    def _consumed(self, size: int) -> None:
        """Received bytes that need no window any more; told to the peer when they are half of it."""
        self._returnable += size
        if self._returnable >= self._connection_window >> 1:
            self._unacknowledged -= self._returnable
            credit, self._returnable = self._returnable, 0
            self._put(frames.window_update(0, credit))

    def _credit(self, stream: StreamT) -> None:
        credit, stream.unacknowledged = stream.unacknowledged, 0
        self._put(frames.window_update(stream.number, credit))
