"""Unary gRPC calls of the proxy's own, over the HTTP/2 of a cluster's upstreams: no library, one message each way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError, Message

from mesh.proxy.http.rescue import Failure, RequestTimedOut
from mesh.proxy.http1.head import Head, ResponseHead
from mesh.proxy.upstream.async_client import AsyncRequest, own_head

if TYPE_CHECKING:
    from mesh.proxy.runtime import Worker

OK, UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE = b"0", b"2", b"4", b"13", b"14"
_COMPRESSED = 1
_PREFIX = 5  # a flag for compression and the length, before each message

# Told the answer, or None and the gRPC status.
Done = Callable[[Message | None, bytes], None]


class GrpcCall:
    """One call of `path` (`/package.Service/Method`) on a cluster. `timeout` in seconds, 0 for none."""

    __slots__ = ("_answer", "_done", "_request")

    def __init__(
        self, worker: Worker, cluster: str, path: str, message: Message,
        *, answer: type[Message], done: Done, timeout: float = 0.0, authority: str = "",
        metadata: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:  # fmt: skip
        headers = [(b"te", b"trailers")]
        if timeout:
            headers.append((b"grpc-timeout", b"%dm" % (timeout * 1000)))
        headers += [(b"content-type", b"application/grpc"), *metadata]
        head = own_head(b"POST", path.encode(), (authority or cluster).encode(), headers)
        body = message.SerializeToString()
        self._answer = answer
        self._done = done
        self._request = _Unary(
            worker, cluster, head, body=b"\0%b%b" % (len(body).to_bytes(4, "big"), body), timeout=timeout,
            answered=self._answered, failed=self._failed,
        )  # fmt: skip

    def start(self) -> None:
        self._request.send()

    def cancel(self) -> None:
        """Give it up; nothing more is told."""
        self._request.cancel()

    def _answered(self, head: ResponseHead, body: bytes) -> None:
        if head.status != 200:
            self._done(None, UNAVAILABLE)
            return
        trailers = self._request.trailers
        status = trailers.get(b"grpc-status") if trailers is not None else head.get(b"grpc-status")
        if status != OK:
            self._done(None, status or UNKNOWN)
            return
        try:
            answer = self._last_message(body)
        except DecodeError:
            answer = None
        self._done(answer, OK if answer is not None else INTERNAL)

    def _last_message(self, body: bytes) -> Message | None:
        """The answer: as in Envoy the last whole message, though there should be but one. Raises DecodeError."""
        answer, at = None, 0
        while len(body) - at >= _PREFIX:
            flags, length = body[at], int.from_bytes(body[at + 1 : at + _PREFIX], "big")
            at += _PREFIX
            if flags > _COMPRESSED or (flags and length):
                raise DecodeError("compressed, which nobody asked for")
            if len(body) - at < length:
                break
            answer = self._answer.FromString(body[at : at + length])
            at += length
        return answer

    def _failed(self, failure: Failure) -> None:
        self._done(None, DEADLINE_EXCEEDED if isinstance(failure, RequestTimedOut) else UNAVAILABLE)


class _Unary(AsyncRequest):
    """Keeps the trailers, which hold the call's status."""

    __slots__ = ("trailers",)

    def send(self) -> None:
        self.trailers: Head | None = None
        super().send()

    def on_trailers(self, trailers: Head) -> None:
        self.trailers = trailers
