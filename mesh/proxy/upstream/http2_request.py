"""One request on an HTTP/2 connection to a host: the `RequestEncoder` of its stream, and what comes back on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.proxy.http.rescue import Failure, UpstreamBroke, UpstreamRefused, UpstreamReset
from mesh.proxy.http1.head import Head, RequestHead, ResponseHead
from mesh.proxy.http1.upgrade import CONNECT, is_upgrade
from mesh.proxy.http2 import errors
from mesh.proxy.http2.stream import ClientStream

if TYPE_CHECKING:
    from mesh.proxy.http.codec import Requester
    from mesh.proxy.tls.connection import Peer
    from mesh.proxy.upstream.http2 import Http2Upstream

_SCHEMES = frozenset((b"http", b"https"))


class Http2Request(ClientStream):
    """A head that comes is kept back for a moment: what the same read holds of the body goes on together with it."""

    __slots__ = ("_connection", "_head", "_upgrade", "caller", "local_address", "peer")

    def __init__(self, connection: Http2Upstream, caller: Requester) -> None:
        ClientStream.__init__(self)
        self._connection = connection
        self.caller: Requester | None = caller
        self.local_address: str = connection.local_address
        self.peer: Peer | None = connection.peer
        self._head: ResponseHead | None = None  # has come, and is not told yet
        self._upgrade = b""

    # For the exchange: see `codec.RequestEncoder`

    @property
    def protocol(self) -> str:
        return "HTTP/2"

    def send_request(self, head: RequestHead, pieces: list[bytes] | None, done: bool) -> None:
        connection = self._connection
        codec = connection.codec
        if pieces is not None and b"upgrade" in head.marked and is_upgrade(head):
            head = self._extended_connect(head)
        scheme = head.scheme
        if scheme not in _SCHEMES:  # upstream it is that of a URL with a host, as Envoy's router has it
            scheme = head.marked.get(b"x-forwarded-proto", b"http")
            if scheme.lower() not in _SCHEMES:
                scheme = b"http"
        if pieces is None:
            codec.send_request(self, head, scheme, done)
            return
        codec.send_request(self, head, scheme, False)
        if len(pieces) > 1 or done:
            codec.send_payload(self, b"".join(pieces), done)
        elif pieces:
            codec.send_payload(self, pieces[0], False)
        if connection.is_write_blocked and not self.is_stopped and self.caller is not None:
            self.caller.upstream_blocked()

    def _extended_connect(self, head: RequestHead) -> RequestHead:
        """RFC 8441: HTTP/2 has no Upgrade, but a CONNECT that names a protocol."""
        asked = head.marked[b"upgrade"]
        if asked == CONNECT:
            return RequestHead(b"CONNECT", head.target, head.authority, head.lines, {})
        self._upgrade = asked
        return RequestHead(b"CONNECT", head.target, head.authority, head.lines, head.marked)

    def send_payload(self, payload: bytes, done: bool) -> None:
        self._connection.codec.send_payload(self, payload, done)

    def send_trailers(self, trailers: Head) -> None:
        self._connection.codec.send_trailers(self, trailers.lines)

    def abandon(self) -> None:
        self._end()
        self._connection.pool.stats.upstream_rq_tx_reset += 1
        self._connection.codec.reset(self, errors.CANCEL)
        self._connection.stream_over()

    def block(self) -> None:
        self._connection.codec.pause(self)

    def unblock(self) -> None:
        self._connection.codec.resume(self)

    # Told by the codec: see `http2.stream.ClientStream`

    def informational_received(self, head: ResponseHead) -> None:
        if self.caller is not None:
            self.caller.informational_received(head)

    def head_received(self, head: ResponseHead, done: bool) -> None:
        caller = self.caller
        if caller is None:
            return
        if self._upgrade and head.status == 200:
            head = _switched(head, self._upgrade)
        if done:
            self._complete()
            caller.response_received(head, b"", True)
        else:
            self._head = head
            self._connection.announce_later(self)

    def payload_received(self, payload: bytes, done: bool) -> None:
        head, caller = self._head, self.caller
        if caller is None:
            return
        if head is not None and payload:
            self._head = None
            if done:
                self._complete()
            caller.response_received(head, payload, done)
            return
        self.announce()
        if self.caller is caller:
            if done:
                self._complete()
            caller.payload_received(payload, done)

    def trailers_received(self, trailers: Head) -> None:
        caller = self.caller
        if caller is None:
            return
        self.announce()
        if self.caller is caller:
            self._complete()
            caller.trailers_received(trailers)

    def announce(self) -> None:
        """Tell of the head: nothing more came with it."""
        head, self._head = self._head, None
        if head is not None and self.caller is not None:
            self.caller.response_received(head, b"", False)

    def reset_received(self, code: int) -> None:
        self._connection.pool.stats.upstream_rq_rx_reset += 1
        self.failed(UpstreamReset())

    def refused(self) -> None:
        self.failed(UpstreamRefused())

    def broke(self, details: str) -> None:
        self._connection.pool.stats.upstream_rq_tx_reset += 1
        self.failed(UpstreamBroke(details))

    def write_blocked(self) -> None:
        if self.caller is not None:
            self.caller.upstream_blocked()

    def write_unblocked(self) -> None:
        if self.caller is not None and not self._connection.is_write_blocked:
            self.caller.upstream_unblocked()

    # The end

    def failed(self, failure: Failure) -> None:
        """The stream is over without a complete response."""
        self.announce()
        caller = self._end()
        if caller is not None:
            self._connection.stream_over()
            caller.upstream_failed(failure)

    def _complete(self) -> None:
        """The response is complete; whatever is left of the request is of no use any more."""
        self._end()
        self._connection.codec.reset(self, errors.NO_ERROR)
        self._connection.stream_over()

    def _end(self) -> Requester | None:
        caller, self.caller = self.caller, None
        self._head = None
        return caller


def _switched(head: ResponseHead, protocol: bytes) -> ResponseHead:
    """The 101 that a 200 to an extended CONNECT stands for."""
    marked = {**head.marked, b"upgrade": protocol, b"connection": b"upgrade"}
    return ResponseHead(101, b"", False, head.lines, marked)
