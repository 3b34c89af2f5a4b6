"""The HTTP/2 client of a case, on the independent `h2` library, which is told to let malformed requests pass.

Many requests may be under way on one connection, so a task reads for all of them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from harness.case import CaseError, Pairs, Request, pairs
from harness.client import PATIENCE, STILL_OPEN_AFTER, Answer, connect
from harness.wire import Message

if TYPE_CHECKING:
    from h2.connection import H2Connection

_PIECE = 16384
_FRAME_HEAD = 9
_PSEUDO = (":method", ":scheme", ":authority", ":path")


class Http2Connection:
    """One client connection; as `client.Connection`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int | None) -> None:
        self._reader = reader
        self._writer = writer
        self._is_tls = writer.get_extra_info("ssl_object") is not None
        address, port = (writer.get_extra_info("sockname") or ("", 0))[:2]
        self.local = f"{address}:{port}"
        self._answers: dict[int, Answer] = {}
        self._last = 0
        self._ended: set[int] = set()
        self._unread = b""
        self._heard: list[Answer] = []
        self._end = ""  # of the connection: how it came
        self._moved = asyncio.Condition()
        self._peer = _client(window)
        self._writing = asyncio.Lock()
        self._writer.write(self._peer.data_to_send())
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls, address: tuple[str, int], context: ssl.SSLContext | None, sni: str | None, request: Request
    ) -> Http2Connection:
        """Connect as the request wants it. Raises OSError as asyncio does."""
        return cls(*await connect(*address, context, sni, request.preface), request.window)

    async def exchange(self, request: Request) -> Answer:
        """Send a request and wait for the end of its response, its reset, or the connection's end."""
        answer = Answer(local=self.local)
        self._heard.append(answer)
        try:
            async with asyncio.timeout(PATIENCE):
                number = await self._send(request, answer)
                if request.abandon or request.cancel is not None or request.bare:
                    return answer
                if request.tunnel is not None:
                    to_the_end = request.tunnel.end == "read"
                    await self._until(lambda: number in self._ended or (not to_the_end and _has(answer, request)))
                    return answer
                await self._until(lambda: number in self._ended)
                if request.frames and not answer.cut:
                    await self._until_reset(answer)
        except TimeoutError:
            answer.connection = "silent"
            return answer
        if number not in self._ended:
            answer.connection = self._end
            answer.cut = bool(answer.responses)
        return answer

    async def _until_reset(self, answer: Answer) -> None:
        """A response that came before the end of its request is often followed by a reset, but not always."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STILL_OPEN_AFTER):
                await self._until(lambda: answer.reset is not None)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: condition() or bool(self._end))

    async def _send(self, request: Request, answer: Answer) -> int:
        number = self._last
        if not request.bare:
            number = self._last = self._peer.get_next_available_stream_id()
            self._answers[number] = answer
            await self._send_request(number, request)
        elif request.raw is not None:
            self._writer.write(request.raw.encode("latin-1"))
        for frame in request.frames:
            self._writer.write(_frame(number, frame))
        return number

    async def _send_request(self, number: int, request: Request) -> None:
        body = (request.body or "").encode("latin-1") * request.times
        pieces = [chunk.encode("latin-1") for chunk in (request.chunks or [])] * request.times
        pieces = pieces or [body[at : at + _PIECE] for at in range(0, len(body), _PIECE)]
        stays_open = bool(request.trailers or request.frames)
        head = _head(request, is_tls=self._is_tls)
        _ignore_limit_of_streams(self._peer)
        self._peer.send_headers(number, head, end_stream=not pieces and not stays_open)
        await self._write(slowly=request.bytewise)
        for index, piece in enumerate(pieces):
            await self._until(lambda: self._takes(number, len(piece)))  # noqa: B023 - awaited at once
            if self._end or number in self._ended:
                return
            self._peer.send_data(number, piece, end_stream=index == len(pieces) - 1 and not stays_open)
            await self._write(slowly=request.bytewise)
        if request.trailers:
            self._peer.send_headers(number, pairs(request.trailers), end_stream=True)
            await self._write(slowly=request.bytewise)

    def _takes(self, number: int, size: int) -> bool:
        return number in self._ended or self._peer.local_flow_control_window(number) >= size

    async def _write(self, *, slowly: bool) -> None:
        async with self._writing:
            data = self._peer.data_to_send()
            step = 1 if slowly else max(len(data), 1)
            for at in range(0, len(data), step):
                self._writer.write(data[at : at + step])
                await asyncio.sleep(0)

    async def cancel(self, code: int) -> None:
        """Reset the last stream."""
        self._peer.reset_stream(self._last, code)
        await self._write(slowly=False)
        await self._writer.drain()

    async def fate(self, wanted: str) -> str:
        """`kept` or `closed`; an end gets its time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STILL_OPEN_AFTER if wanted == "kept" else PATIENCE), self._moved:
                await self._moved.wait_for(lambda: self._end)
        return self._end or "kept"

    def close(self) -> None:
        self._reading.cancel()
        self._writer.transport.abort()

    # Reading

    async def _read(self) -> None:
        # That an end comes as a reset says only that something of ours was still under way.
        try:
            while data := await self._reader.read(1 << 16):
                async with self._moved:
                    self._receive(data)
                    self._moved.notify_all()
                await self._write(slowly=False)
        except OSError:
            pass
        async with self._moved:
            self._end = "closed"
            self._moved.notify_all()

    def _receive(self, data: bytes) -> None:
        from h2.connection import ConnectionState
        from h2.exceptions import ProtocolError

        self._unread += data
        while len(self._unread) >= _FRAME_HEAD:
            end = _FRAME_HEAD + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < end:
                return
            frame, self._unread = self._unread[:end], self._unread[end:]
            with suppress(ProtocolError):  # of what a case's own frames have brought about
                for event in self._peer.receive_data(frame):
                    self._take(event)
            # For the library a GOAWAY is the end; in HTTP/2 the streams that are open go on.
            if self._peer.state_machine.state is ConnectionState.CLOSED:
                self._peer.state_machine.state = ConnectionState.CLIENT_OPEN

    def _take(self, event: object) -> None:
        from h2 import events

        if isinstance(event, events.ConnectionTerminated):
            for heard in self._heard:
                heard.goaway = int(event.error_code)
            return
        number = getattr(event, "stream_id", None)
        answer = self._answers.get(number) if number else None
        if answer is None:
            return
        if isinstance(event, events.ResponseReceived):
            headers = _text(event.headers)
            status = dict(headers)[":status"]
            answer.responses.append(Message(f"HTTP/2 {status} ", [each for each in headers if each[0] != ":status"]))
        elif isinstance(event, events.InformationalResponseReceived):
            answer.informational.append(int(dict(_text(event.headers))[":status"]))
        elif isinstance(event, events.DataReceived):
            answer.responses[-1].body += event.data
            if event.flow_controlled_length:
                self._peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.TrailersReceived):
            answer.responses[-1].trailers = _text(event.headers)
        elif isinstance(event, events.StreamReset):
            answer.reset = int(event.error_code)
            answer.cut = bool(answer.responses) and number not in self._ended
            self._ended.add(event.stream_id)
        elif isinstance(event, events.StreamEnded):
            self._ended.add(event.stream_id)


def _has(answer: Answer, request: Request) -> bool:
    """Whether as much came through the tunnel as the case waits for."""
    wanted: int = request.tunnel.receive
    return bool(answer.responses) and len(answer.responses[-1].body) >= wanted


def _client(window: int | None) -> H2Connection:
    # Imported here so that cases of HTTP/1 need no HTTP/2 library.
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.settings import SettingCodes

    peer = H2Connection(
        H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    if window is not None:
        peer.local_settings = type(peer.local_settings)(
            client=True, initial_values={**dict(peer.local_settings), SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
    peer.initiate_connection()
    return peer


def _ignore_limit_of_streams(peer: H2Connection) -> None:
    """What an engine does with a stream too many is for a case to show."""
    from h2.settings import SettingCodes

    peer.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1 << 30
    peer.remote_settings.acknowledge()


def _head(request: Request, *, is_tls: bool) -> Pairs:
    defaults = (request.method, "https" if is_tls else "http", request.host, request.path)
    pseudo = {**dict(zip(_PSEUDO, defaults, strict=True)), **request.pseudo}
    return [*((name, value) for name, value in pseudo.items() if value is not None), *pairs(request.headers)]


def _frame(number: int, frame: Mapping[str, Any]) -> bytes:
    """A frame as it is, on the request's stream unless it says another."""
    if unknown := set(frame) - {"type", "flags", "stream", "payload", "times"}:
        raise CaseError(f"a frame knows no {sorted(unknown)}")
    data = str(frame.get("payload", "")).encode("latin-1")
    head = len(data).to_bytes(3, "big") + bytes((frame["type"], frame.get("flags", 0)))
    return (head + int(frame.get("stream", number)).to_bytes(4, "big") + data) * int(frame.get("times", 1))


def _text(headers: list[tuple[bytes, bytes]]) -> Pairs:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
