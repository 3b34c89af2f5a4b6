"""Scripted upstreams that speak HTTP/2, by a library that is neither engine's own."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings

from harness.case import Reply, pairs
from harness.upstream import Record
from harness.wire import Message

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
_SERVING_STATUS = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")  # grpc.health.v1, in order


class Http2Upstream:
    """One address of a cluster. `replies` are used in order and the last one repeats; none means 200 with its name.

    `settings` are sent with the connection's first frame, by their names in RFC 9113.
    """

    def __init__(self, name: str, records: list[Record], settings: dict[str, int]) -> None:
        self.name = name
        self.records = records
        self.held = 0
        self.checks: list[Record] = []
        self.health = Reply()
        self.settings = {SettingCodes[key]: value for key, value in settings.items()}
        self.gate = asyncio.Event()
        self.connections = 0
        self.serving: set[Connection] = set()
        self._replies: deque[Reply] = deque()
        self._server: asyncio.Server | None = None

    async def start(self, address: str, port: int, context: ssl.SSLContext | None) -> None:
        if context is not None:
            context.set_alpn_protocols(["h2"])
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), address, port, ssl=context)

    def script(self, replies: Iterable[Reply]) -> None:
        """Set what the next requests are answered with, and hold anew what asks to be held."""
        self._replies = deque(replies)
        self.gate = asyncio.Event()

    def next_reply(self) -> Reply:
        if not self._replies:
            return Reply(body=self.name)
        return self._replies.popleft() if len(self._replies) > 1 else self._replies[0]

    def release(self) -> None:
        """Let every request that is held be answered."""
        self.gate.set()

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self.release()
        tasks = [task for connection in self.serving for task in connection.close()]
        if tasks:
            await asyncio.wait(tasks)
        await self._server.wait_closed()


class Connection(asyncio.Protocol):
    """One connection: a task for each request answers it."""

    def __init__(self, upstream: Http2Upstream) -> None:
        self._upstream = upstream
        self._number, upstream.connections = upstream.connections, upstream.connections + 1
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="latin-1"))
        self._transport: asyncio.Transport = None  # type: ignore[assignment] # until connection_made
        self._records: dict[int, Record] = {}
        self._replies: dict[int, Reply] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._window = asyncio.Event()
        self._streams_gone: set[int] = set()

    def close(self) -> set[asyncio.Task[None]]:
        self._transport.abort()
        for task in self._tasks:
            task.cancel()
        return self._tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._upstream.serving.add(self)
        values = {**self._h2.local_settings, **self._upstream.settings}
        self._h2.local_settings = Settings(client=False, initial_values=values)
        self._h2.initiate_connection()
        self._flush()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._upstream.serving.discard(self)
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self._flush()
            self._transport.close()
            return
        for event in events:
            self._happened(event)
        self._flush()

    def _happened(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._requested(event)
        elif isinstance(event, DataReceived):
            self._records[event.stream_id].message.body += event.data
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            reply = self._replies[event.stream_id]
            if reply.tunnel == "echo" and event.data:
                self._h2.send_data(event.stream_id, event.data)
        elif isinstance(event, TrailersReceived):
            self._records[event.stream_id].message.trailers = cast(Any, event.headers)
        elif isinstance(event, StreamEnded):
            self._records[event.stream_id].complete = True
            if self._replies[event.stream_id].tunnel == "echo":
                self._h2.end_stream(event.stream_id)
            elif not self._replies[event.stream_id].early:
                self._answer_soon(event.stream_id)
        elif isinstance(event, StreamReset):
            self._streams_gone.add(event.stream_id)
            self._records[event.stream_id].message.reset = ErrorCodes(event.error_code).name
            self._window.set()
        elif isinstance(event, WindowUpdated):
            self._window.set()
        elif isinstance(event, ConnectionTerminated):
            self._transport.close()

    def _requested(self, event: RequestReceived) -> None:
        headers = cast("list[tuple[str, str]]", list(event.headers))
        pseudo = {name: value for name, value in headers if name.startswith(":")}
        start = f"{pseudo[':method']} {pseudo.get(':path', pseudo.get(':authority'))} HTTP/2"
        record = Record(self._upstream.name, self._number, Message(start, headers), complete=False)
        self._records[event.stream_id] = record
        is_check = record.message.first("user-agent") == "envoy/hc"
        (self._upstream.checks if is_check else self._upstream.records).append(record)
        reply = self._upstream.health if is_check else self._upstream.next_reply()
        if is_check and (reply == Reply() or reply.grpc is not None) and pseudo[":path"] == HEALTH_CHECK:
            reply = _health_reply(reply)
        self._replies[event.stream_id] = reply
        if reply.early or reply.tunnel is not None:
            self._answer_soon(event.stream_id)

    def _answer_soon(self, number: int) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(number, self._replies[number]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, reply: Reply) -> None:
        if reply.delay:
            await asyncio.sleep(reply.delay)
        if reply.never:
            await asyncio.Event().wait()
        if reply.hold:
            self._upstream.held += 1
            try:
                await self._upstream.gate.wait()
            finally:
                self._upstream.held -= 1
        try:
            await self._send(number, reply)
        except StreamClosedError:
            pass  # the proxy has reset the stream, which its record tells
        self._flush()
        if reply.end in ("close", "silent", "reset"):
            self._transport.abort() if reply.end == "reset" else self._transport.close()

    async def _send(self, number: int, reply: Reply) -> None:
        if reply.goaway is not None:
            self._h2.close_connection(ErrorCodes[reply.goaway], last_stream_id=0 if reply.refuses else number)
            # The library takes the connection for closed; its peer may still be answered.
            self._h2.state_machine.state = type(self._h2.state_machine.state).CLIENT_OPEN
            if reply.refuses:
                return
        if reply.end == "silent" or (reply.reset is not None and not reply.reset_after):
            if reply.reset is not None:
                self._h2.reset_stream(number, ErrorCodes[reply.reset])
            return
        for status in reply.informational:
            self._h2.send_headers(number, [(":status", str(status))])
        body = (reply.body or "").encode("latin-1") * reply.times
        if reply.chunks is not None:
            body = "".join(reply.chunks * reply.times).encode("latin-1")
        trailers = pairs(reply.trailers)
        ends = not body and not trailers and reply.reset is None and reply.tunnel is None and reply.chunks is None
        self._h2.send_headers(number, [(":status", str(reply.status)), *pairs(reply.headers)], end_stream=ends)
        if ends or reply.tunnel is not None:
            return
        await self._send_body(number, body, done=not trailers and reply.reset is None)
        if reply.reset is not None:
            self._h2.reset_stream(number, ErrorCodes[reply.reset])
        elif trailers:
            self._h2.send_headers(number, trailers, end_stream=True)

    async def _send_body(self, number: int, body: bytes, *, done: bool) -> None:
        while body:
            if number in self._streams_gone:
                return
            size = min(len(body), self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)
            if not size:
                self._window.clear()
                self._flush()
                await self._window.wait()
                continue
            self._h2.send_data(number, body[:size])
            body = body[size:]
        if done:
            self._h2.end_stream(number)

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)


def _health_reply(reply: Reply) -> Reply:
    """What gRPC's health service answers: by default that it is SERVING, else a status of a service or of gRPC."""
    said = "SERVING" if reply.grpc is None else reply.grpc
    headers = {"content-type": "application/grpc"}
    if said not in _SERVING_STATUS:
        code = grpc.StatusCode[said].value[0]
        return replace(reply, headers={**headers, "grpc-status": str(code)})
    message = bytes((8, _SERVING_STATUS.index(said))) if said != "UNKNOWN" else b""
    body = b"\0" + len(message).to_bytes(4, "big") + message
    return replace(reply, headers=headers, body=body.decode("latin-1"), trailers={"grpc-status": "0"})
