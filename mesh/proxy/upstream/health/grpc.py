"""Health checks by gRPC: `grpc.health.v1.Health/Check`, whose answer has to be SERVING."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from mesh.proxy.http1.head import RequestHead, ResponseHead
from mesh.proxy.upstream.health.connection import KeptConnection, checked_name
from mesh.proxy.upstream.health.http2 import Answer, Http2Connection
from mesh.proxy.upstream.health.session import Outcome

if TYPE_CHECKING:
    from mesh.proxy.upstream.host import Host

# On the wire they are the service's messages: `string service = 1` and `ServingStatus status = 1`.
HealthCheckRequest, HealthCheckResponse = StringValue, Int32Value
SERVING = 1
_PATH = b"/grpc.health.v1.Health/Check"
_PREFIX = 5  # a flag for compression and the length, before each message
_OK = b"0"


@dataclass(frozen=True, slots=True)
class GrpcCheck:
    """`HealthCheck.GrpcHealthCheck`. `lines` are the request's headers; without `service` it is of the whole server."""

    service: str = ""
    authority: str = ""
    lines: tuple[bytes, ...] = ()
    keeps_connection: bool = True
    port: int = 0


class GrpcProbe:
    """One host's checks, over one connection while it may be kept."""

    __slots__ = ("_body", "_check", "_host", "_kept", "close")

    def __init__(self, check: GrpcCheck, host: Host) -> None:
        self._check = check
        self._host = host
        message = HealthCheckRequest(value=check.service).SerializeToString()
        self._body = b"\0%b%b" % (len(message).to_bytes(4, "big"), message)
        self._kept = KeptConnection(host, check.port, lambda: Http2Connection.to(host, _is_no_grpc))
        self.close = self._kept.close

    async def check(self) -> Outcome:
        connection = await self._kept.open()
        authority = checked_name(self._host, self._check.authority)
        request = RequestHead(b"POST", _PATH, authority, list(self._check.lines), {})
        answer = await connection.ask(request, self._body)
        if not self._check.keeps_connection or not connection.is_open:
            self.close()
        return Outcome.PASSED if is_serving(answer) else Outcome.REFUSED


def is_serving(answer: Answer) -> bool:
    """Whether it is gRPC's OK with one message, which says SERVING; empty messages beside it do not count (Envoy)."""
    if _is_no_grpc(answer.head) or answer.trailers is None or answer.trailers.get(b"grpc-status") != _OK:
        return False
    rest, found = answer.body, b""
    while rest:
        length = int.from_bytes(rest[1:_PREFIX], "big")
        message, flag, whole = rest[_PREFIX : _PREFIX + length], rest[0], _PREFIX + length
        if flag or len(rest) < whole or (found and message):
            return False
        found, rest = found or message, rest[whole:]
    try:
        return HealthCheckResponse.FromString(found).value == SERVING
    except DecodeError:
        return False


def _is_no_grpc(head: ResponseHead) -> bool:
    return head.status != 200 or not (head.get(b"content-type") or b"").startswith(b"application/grpc")
