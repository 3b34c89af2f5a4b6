"""What keeps an HTTP/2 connection going beside its messages, and what ends it: SETTINGS, PING, WINDOW_UPDATE,
RST_STREAM, PRIORITY, GOAWAY (RFC 9113 section 6), and the limits on frames that nobody needs.
"""

from __future__ import annotations

from mesh.proxy.http2 import errors, frames
from mesh.proxy.http2.errors import ConnectionBroke
from mesh.proxy.http2.options import DEFAULT_FRAME, MAX_WINDOW, Http2Options
from mesh.proxy.http2.sending import Owner, Sending, StreamT
from mesh.proxy.http2.stats import Http2Stats


class Control(Sending[StreamT]):
    """Base of `Connection`. `error` is set when the connection is broken."""

    __slots__ = (
        "_awaits_preface", "_buffer", "_empty", "_is_acknowledged", "_is_client", "_priorities", "_updates", "error",
        "last_received",
    )  # fmt: skip

    def __init__(self, owner: Owner, options: Http2Options, stats: Http2Stats, *, is_client: bool) -> None:
        # To a server the authority goes as a pseudo header.
        Sending.__init__(self, owner, options, stats, frozenset((b"host",)) if is_client else frozenset())
        self.error: ConnectionBroke | None = None
        self.last_received = 0  # the highest stream that the peer has opened
        self._is_client = is_client
        self._buffer = b""
        self._awaits_preface = True
        self._is_acknowledged = False  # the peer knows our settings
        self._empty = 0
        self._priorities = 0
        self._updates = 0

    # The end

    def close(self, code: int, details: str) -> None:
        """End the connection for a reason of our own: GOAWAY, and nothing is read any more."""
        self._break(ConnectionBroke(code, details))

    def let_go(self) -> list[StreamT]:
        """Every open stream, which from now on is closed: the connection is lost."""
        streams = list(self.streams.values())
        for stream in streams:
            stream.is_closed = True
            stream.waiting = None
        self.stats.streams_active -= len(streams)
        self.streams.clear()
        self._waiting.clear()
        return streams

    def _break(self, error: ConnectionBroke) -> None:
        if self.error is not None:
            return
        self.error = error
        self._buffer = b""
        if self._awaits_preface:
            self._out.clear()  # frames are no answer to who speaks something else
        else:
            self.send_goaway(error.code, error.details.encode())
        self._owner.connection_broke(error)

    # Frames

    def _check_not_idle(self, number: int, frame: str) -> None:
        """The stream is not open: it must have been once."""
        if not number:
            raise ConnectionBroke(errors.PROTOCOL_ERROR, f"{frame}: stream_id == 0")
        is_ours = bool(number & 1) == self._is_client
        if number > (self._last_opened if is_ours else self.last_received):
            raise ConnectionBroke(errors.PROTOCOL_ERROR, f"{frame}: stream in idle")

    def _goaway(self, last: int, code: int) -> None:
        self._owner.goaway_received(last, code)

    def _ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise ConnectionBroke(errors.FRAME_SIZE_ERROR, "PING: its size")
        if flags & frames.ACK:
            self._owner.ping_acknowledged(payload)
        else:
            self._send_control(frames.ping_ack(payload))

    def _reset_received(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBroke(errors.FRAME_SIZE_ERROR, "RST_STREAM: its size")
        stream = self.streams.get(number)
        if stream is None:
            self._check_not_idle(number, "RST_STREAM")
            return
        self.stats.rx_reset += 1
        self._closed(stream)
        stream.reset_received(int.from_bytes(payload, "big"))

    def _priority(self, number: int, payload: bytes) -> None:
        if not number:
            raise ConnectionBroke(errors.PROTOCOL_ERROR, "PRIORITY: stream_id == 0")
        if len(payload) != 5:
            raise ConnectionBroke(errors.FRAME_SIZE_ERROR, "PRIORITY: its size")
        self._priorities += 1
        if self._priorities > self._options.max_priority_frames_per_stream * (1 + self.opened):
            self.stats.inbound_priority_frames_flood += 1
            raise ConnectionBroke(errors.ENHANCE_YOUR_CALM, "http2.inbound_priority_frames_flood")

    def _empty_frame(self) -> None:
        self._empty += 1
        if self._empty > self._options.max_empty_frames:
            self.stats.inbound_empty_frames_flood += 1
            raise ConnectionBroke(errors.ENHANCE_YOUR_CALM, "http2.inbound_empty_frames_flood")

    def _window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBroke(errors.FRAME_SIZE_ERROR, "WINDOW_UPDATE: its size")
        credit = int.from_bytes(payload, "big") & 0x7FFFFFFF
        self._updates += 1
        allowed = 5 + 2 * (self.opened + self._options.max_window_updates_per_data_frame * self.data_frames_sent)
        if self._updates > allowed:
            self.stats.inbound_window_update_frames_flood += 1
            raise ConnectionBroke(errors.ENHANCE_YOUR_CALM, "http2.inbound_window_update_frames_flood")
        if not number:
            if not credit or self.send_window + credit > MAX_WINDOW:
                raise ConnectionBroke(errors.FLOW_CONTROL_ERROR, "WINDOW_UPDATE: a window that is not allowed")
            was_empty = self.send_window <= 0
            self.send_window += credit
            if was_empty and self._waiting:  # else they wait for credit of their own
                self._send_waiting()
            return
        stream = self.streams.get(number)
        if stream is None:
            self._check_not_idle(number, "WINDOW_UPDATE")
            return
        if not credit:
            raise ConnectionBroke(errors.PROTOCOL_ERROR, "WINDOW_UPDATE: a credit of 0")  # as Envoy judges it
        if stream.send_window + credit > MAX_WINDOW:
            raise ConnectionBroke(errors.FLOW_CONTROL_ERROR, "WINDOW_UPDATE: a window that is not allowed")
        stream.send_window += credit
        if stream.waiting is not None:
            self._waiting[number] = stream
            self._send_on(stream)

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            if payload:
                raise ConnectionBroke(errors.FRAME_SIZE_ERROR, "SETTINGS: an ACK with payload")
            self._is_acknowledged = True
            return
        if len(payload) % 6:
            raise ConnectionBroke(errors.FRAME_SIZE_ERROR, "SETTINGS: its size")
        # Each setting once, by its last value: a frame may name one thousands of times, and one concerns every stream.
        for setting, value in dict(frames.read_setting(payload)).items():
            self._setting(setting, value)
        self._send_control(frames.SETTINGS_ACK)
        self._owner.settings_received()

    def _setting(self, setting: int, value: int) -> None:
        if setting == frames.HEADER_TABLE_SIZE:
            self._encoder.limit(value)
        elif setting == frames.ENABLE_PUSH:
            if value > 1 or (value and self._is_client):
                raise ConnectionBroke(errors.PROTOCOL_ERROR, "SETTINGS: ENABLE_PUSH")
        elif setting == frames.MAX_CONCURRENT_STREAMS:
            self.peer_max_streams = value
        elif setting == frames.INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionBroke(errors.FLOW_CONTROL_ERROR, "SETTINGS: INITIAL_WINDOW_SIZE")
            self._resize_windows(value)
        elif setting == frames.MAX_FRAME_SIZE:
            if not DEFAULT_FRAME <= value <= 2**24 - 1:
                raise ConnectionBroke(errors.PROTOCOL_ERROR, "SETTINGS: MAX_FRAME_SIZE")
            self._max_frame = min(value, 4 * DEFAULT_FRAME)
