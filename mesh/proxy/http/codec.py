"""The seam between what HTTP means and how it is written: everything above speaks these four protocols, no bytes.

    client -> codec -> Stream/Exchange -> RequestEncoder -> codec -> upstream
    client <- codec <- ResponseEncoder <- Stream/Exchange <- codec <- upstream

An encoder is one side of *one* stream. An HTTP/1 connection carries one at a time and is that stream itself
(`Downstream`, `Upstream`); an HTTP/2 connection makes an object for each of its streams.

What crosses the seam:

- Heads as `http1.head` has them: header lines without what is hop-by-hop, `Host` among them (its value is `authority`
  too). A codec with other rules for names (HTTP/2 wants lower case, and `:authority` for `Host`) converts at its side.
- Payload without framing. Whether it is chunked, counted or cut into frames is the codec's affair: a head with
  `content-length` in `marked` has a known size.
- `done` ends a message with what it comes with. A message with trailers ends with them instead.
- Trailers as a `Head` whose `marked` is empty.
- An upgrade as HTTP/1.1 has it: GET with `connection` and `upgrade`, which a 101 answers; HTTP/2's extended CONNECT and
  its 200 are translated at the codec's side. The request's payload is then whatever the client says, and has no end;
  after the 101 (`Requested.is_tunnel`) so is the response's.

Encoders keep no body: what the other side does not take yet is in the transport's buffer, or in the HTTP/2 stream's.
They say when that is too much (`client_blocked`, `upstream_blocked`), and the stream stops the other side (`block`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mesh.proxy.downstream.connection_info import ConnectionInfo
    from mesh.proxy.http.config import HttpConfig
    from mesh.proxy.http.rescue import Failure
    from mesh.proxy.http1.head import Head, RequestHead, ResponseHead
    from mesh.proxy.runtime import Worker
    from mesh.proxy.tls.connection import Peer


class ResponseEncoder(Protocol):
    """The client's side of one stream: where its response is written, and what is known of who sent the request.

    `protocol` is as the access log has it (`HTTP/1.1`, `HTTP/2`), `connection_id` the worker's count of connections.
    `will_close` asks for the connection to end after its present streams (`connection: close`, or GOAWAY); `is_blocked`
    is whether `block` is in force. `info` is there from `connection_made` on.
    """

    config: HttpConfig
    worker: Worker
    forwarded_proto: bytes
    will_close: bool

    @property
    def connection_id(self) -> int: ...

    @property
    def peer(self) -> Peer | None: ...

    @property
    def scheme(self) -> bytes: ...

    @property
    def info(self) -> ConnectionInfo | None: ...

    @property
    def remote_address(self) -> str: ...

    @property
    def remote_ip(self) -> bytes: ...

    @property
    def local_address(self) -> str: ...

    @property
    def is_blocked(self) -> bool: ...

    @property
    def protocol(self) -> str: ...

    def reject(self, details: str) -> bool:
        """End the stream for what its request's head holds, without an answer; false where one is wanted."""

    def send_informational(self, head: ResponseHead) -> None:
        """A 1xx response other than 101; the real one follows."""

    def send_head(self, head: ResponseHead, payload: bytes, done: bool) -> None:
        """The response's head with the first of its body. The codec adds its framing to `head.lines`."""

    def send_payload(self, payload: bytes, done: bool) -> None:
        """More of the response's body."""

    def send_trailers(self, trailers: Head) -> None:
        """The end of the response. A codec that may not send trailers ends it without."""

    def block(self) -> None:
        """Read no more of the request's body for now."""

    def unblock(self) -> None: ...

    def exchange_over(self, reset: bool) -> None:
        """The stream is over and takes no more calls; `reset` if its response must not look complete."""


class RequestEncoder(Protocol):
    """The upstream's side of one stream, as a pool hands it to `Requester.upstream_ready`.

    It belongs to `caller` until the response is complete, failed or abandoned; then `caller` is None.
    """

    caller: Requester | None
    local_address: str
    peer: Peer | None

    @property
    def protocol(self) -> str: ...

    def send_request(self, head: RequestHead, pieces: list[bytes] | None, done: bool) -> None:
        """The request's head with what there is of its body; None if it has none. `head` is left as it is: a retry
        sends it again.
        """

    def send_payload(self, payload: bytes, done: bool) -> None:
        """More of the request's body."""

    def send_trailers(self, trailers: Head) -> None:
        """The end of the request. A codec that may not send trailers ends it without."""

    def abandon(self) -> None:
        """The caller wants no more of the response and is told nothing more."""

    def block(self) -> None:
        """Read no more of the response for now."""

    def unblock(self) -> None: ...


class Requester(Protocol):
    """Who waits for an upstream stream and owns it then: what pools and codecs tell of connection and response.

    One of `done`, `trailers_received` and `upstream_failed` is the last that it hears.
    """

    method: bytes
    head: RequestHead

    @property
    def client_protocol(self) -> str:
        """The protocol that the request came by (`HTTP/1.1`, `HTTP/2`)."""

    def upstream_ready(self, upstream: RequestEncoder) -> None:
        """The stream is yours: send the request."""

    def informational_received(self, head: ResponseHead) -> None: ...

    def response_received(self, head: ResponseHead, payload: bytes, done: bool) -> None:
        """The head with what came along of the body; `done` without payload if there is no body at all."""

    def payload_received(self, payload: bytes, done: bool) -> None: ...

    def trailers_received(self, trailers: Head) -> None: ...

    def upstream_failed(self, failure: Failure) -> None: ...

    def upstream_blocked(self) -> None:
        """The upstream takes no more of the request for now."""

    def upstream_unblocked(self) -> None: ...


class Requested(Protocol):
    """What a server codec tells the stream that it has made of a request head (`Exchange`)."""

    method: bytes
    request_done: bool
    is_tunnel: bool  # the head that is sent now agrees to an upgrade: what follows has no framing

    def start(self) -> None: ...

    def request_payload(self, payload: bytes, done: bool) -> None: ...

    def request_trailers(self, trailers: Head) -> None: ...

    def client_blocked(self) -> None:
        """The client takes no more of the response for now."""

    def client_unblocked(self) -> None: ...

    def downstream_lost(self, flag: str = ..., details: str = ...) -> None:
        """The client is gone, or has reset the stream."""

    def fail(self, failure: Failure) -> None:
        """What came was not what its head promised (RequestBroke)."""
