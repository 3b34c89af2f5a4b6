"""Both ends of an HTTP/2 connection without sockets: our codec with streams that write down what they hear."""

from __future__ import annotations

from typing import Any

from mesh.proxy.http1.head import Head, RequestHead, ResponseHead
from mesh.proxy.http2.client import ClientConnection
from mesh.proxy.http2.errors import ConnectionBroke
from mesh.proxy.http2.options import Http2Options
from mesh.proxy.http2.server import ServerConnection
from mesh.proxy.http2.stats import Http2Stats
from mesh.proxy.http2.stream import ClientStream, ServerStream

Event = tuple[Any, ...]


class Recorder:
    """An owner, and the list of what it and its streams heard."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.streams: list[HeardServerStream] = []
        self.pending = 0
        self.drained = True

    def new_stream(self) -> HeardServerStream:
        stream = HeardServerStream(self.events)
        self.streams.append(stream)
        return stream

    def output_pending(self) -> None:
        self.pending += 1

    def is_drained(self) -> bool:
        return self.drained

    def settings_received(self) -> None:
        self.events.append(("settings",))

    def ping_acknowledged(self, opaque: bytes) -> None:
        self.events.append(("pong", opaque))

    def goaway_received(self, last: int, code: int) -> None:
        self.events.append(("goaway", last, code))

    def connection_broke(self, error: ConnectionBroke) -> None:
        self.events.append(("broke", error.code, error.details))


class _Heard:
    """The hooks that both roles share."""

    number: int
    events: list[Event]

    def payload_received(self, payload: bytes, done: bool) -> None:
        self.events.append(("payload", self.number, payload, done))

    def trailers_received(self, trailers: Head) -> None:
        self.events.append(("trailers", self.number, tuple(trailers.lines)))

    def reset_received(self, code: int) -> None:
        self.events.append(("reset", self.number, code))

    def broke(self, details: str) -> None:
        self.events.append(("malformed", self.number, details))

    def write_blocked(self) -> None:
        self.events.append(("blocked", self.number))

    def write_unblocked(self) -> None:
        self.events.append(("unblocked", self.number))


class HeardServerStream(_Heard, ServerStream):
    def __init__(self, events: list[Event]) -> None:
        ServerStream.__init__(self)
        self.events = events

    def head_received(self, head: RequestHead, done: bool) -> None:
        self.events.append(("request", self.number, head.method, head.target, head.authority, tuple(head.lines), done))

    def head_refused(self, head: RequestHead, status: int, details: str) -> None:
        self.events.append(("refuse", self.number, status, details))


class HeardClientStream(_Heard, ClientStream):
    def __init__(self, events: list[Event]) -> None:
        ClientStream.__init__(self)
        self.events = events

    def informational_received(self, head: ResponseHead) -> None:
        self.events.append(("informational", self.number, head.status))

    def head_received(self, head: ResponseHead, done: bool) -> None:
        self.events.append(("response", self.number, head.status, tuple(head.lines), done))

    def refused(self) -> None:
        self.events.append(("refused", self.number))


def server(options: Http2Options = Http2Options()) -> tuple[ServerConnection[HeardServerStream], Recorder]:  # noqa: B008 - frozen
    owner = Recorder()
    return ServerConnection(owner, options, Http2Stats()), owner


def client(options: Http2Options = Http2Options()) -> tuple[ClientConnection, Recorder]:  # noqa: B008 - frozen
    owner = Recorder()
    return ClientConnection(owner, options, Http2Stats()), owner


def get(target: bytes = b"/", method: bytes = b"GET", lines: tuple[bytes, ...] = ()) -> RequestHead:
    return RequestHead(method, target, b"mesh.test", [b"host: mesh.test", *lines], {b"host": b"mesh.test"})


def shuttle(one: ClientConnection, other: ServerConnection[HeardServerStream]) -> None:
    """Carry what both have to say until neither says more."""
    while True:
        there = one.take()
        if there:
            other.receive(there)
        back = other.take()
        if back:
            one.receive(back)
        if not there and not back:
            return
