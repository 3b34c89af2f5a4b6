"""What can go wrong with a request, as types, and the one table that says how each is answered.

Failures are values: they are handed to `Exchange.fail`, which looks them up here. Status, flag, details and body are
Envoy's (its response flags and response code details).
"""

from __future__ import annotations

from dataclasses import dataclass


class Failure(Exception):
    """A request that gets no upstream response. `reason` goes into details, `transport` is what the transport says."""

    def __init__(self, reason: str = "", transport: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.transport = transport


class NoRoute(Failure):
    """No virtual host or no route matches."""


class NoCluster(Failure):
    """The route names a cluster that does not exist."""


class NoHealthyUpstream(Failure):
    """The cluster has no host that may be picked."""


class Overflow(Failure):
    """A circuit-breaker threshold is reached."""


class ConnectFailed(Failure):
    """No connection to the host could be made."""


class ConnectTimedOut(Failure):
    """The host did not accept the connection in time."""


class UpstreamClosed(Failure):
    """The host closed or reset the connection before its response was complete."""


class UpstreamReset(Failure):
    """The host reset the request's stream."""


class UpstreamRefused(Failure):
    """The host reset the request's stream without having looked at it."""


class UpstreamBroke(Failure):
    """The host sent something that is not HTTP/1.1."""


class RequestTimedOut(Failure):
    """The route's timeout ran out."""


class TryTimedOut(Failure):
    """The timeout of one try ran out."""


class TryIdle(Failure):
    """Nothing moved on one try for too long."""


class StreamIdle(Failure):
    """Nothing moved on the stream for too long."""


class RequestIncomplete(Failure):
    """The client took longer than request_timeout for its request."""


class StreamTooLong(Failure):
    """The stream took longer than max_stream_duration."""


class RequestBroke(Failure):
    """The client sent a body that is not HTTP/1.1."""


class RequestTrailersTooLarge(Failure):
    """The client sent more trailers than are taken."""


class RequestTooLarge(Failure):
    """The request body does not fit a buffer that must hold it."""


class ResponseTooLarge(Failure):
    """The response body does not fit a buffer that must hold it."""


class DownstreamClosed(Failure):
    """The client went away: there is nobody to answer."""


class Aborted(Failure):
    """The fault filter ended the request."""


@dataclass(frozen=True, slots=True)
class Rescue:
    """How a failure is answered. `details` may hold `{reason}`; `is_reset` failures get the transport's reason too."""

    status: int
    flag: str
    details: str
    body: str = ""
    is_reset: bool = False
    headers: bytes = b""
    grpc_status: int | None = None  # for a gRPC call, where it is not the one that the status stands for

    def words(self, failure: Failure) -> tuple[str, str]:
        """Response code details and body for this failure."""
        details = self.details.replace("{reason}", failure.reason)
        if not failure.transport or not self.is_reset:
            return details, self.body
        return f"{details[:-1]}|{failure.transport.replace(' ', '_')}}}", self.body


_RESET_BODY = "upstream connect error or disconnect/reset before headers. reset reason: "
_RESET_DETAILS = "upstream_reset_before_response_started{{{reason}}}"


def _reset(status: int, flag: str, words: str, headers: bytes = b"") -> Rescue:
    details = _RESET_DETAILS.format(reason=words.replace(" ", "_"))
    return Rescue(status, flag, details, _RESET_BODY + words, is_reset=True, headers=headers)


RESCUE: dict[type[Failure], Rescue] = {
    NoRoute: Rescue(404, "NR", "route_not_found"),
    NoCluster: Rescue(503, "NC", "cluster_not_found"),
    NoHealthyUpstream: Rescue(503, "UH", "no_healthy_upstream", "no healthy upstream"),
    Overflow: _reset(503, "UO", "overflow", headers=b"x-envoy-overloaded: true\r\n"),
    ConnectFailed: _reset(503, "UF", "remote connection failure"),
    ConnectTimedOut: _reset(503, "UF", "connection timeout"),
    UpstreamClosed: _reset(503, "UC", "connection termination"),
    UpstreamReset: _reset(503, "UR", "remote reset"),
    UpstreamRefused: _reset(503, "UR", "remote refused stream reset"),
    UpstreamBroke: _reset(502, "UPE", "protocol error"),
    RequestTimedOut: Rescue(504, "UT", "response_timeout", "upstream request timeout"),
    TryTimedOut: Rescue(504, "UT", "upstream_per_try_timeout", "upstream request timeout"),
    TryIdle: Rescue(504, "UT", "upstream_per_try_idle_timeout", "upstream request timeout"),
    StreamIdle: Rescue(504, "SI", "stream_idle_timeout", "stream timeout"),
    RequestIncomplete: Rescue(408, "", "request_overall_timeout", "request timeout"),
    StreamTooLong: Rescue(504, "", "max_duration_timeout", "downstream duration timeout", grpc_status=4),
    RequestBroke: Rescue(400, "DPE", "{reason}", "Bad Request"),
    RequestTrailersTooLarge: Rescue(431, "DPE", "{reason}", "Request Header Fields Too Large"),
    RequestTooLarge: Rescue(413, "", "request_payload_too_large", "Payload Too Large"),
    ResponseTooLarge: Rescue(500, "", "response_payload_too_large", "Internal Server Error"),
    DownstreamClosed: Rescue(0, "DC", "downstream_remote_disconnect"),
    Aborted: Rescue(503, "FI", "fault_filter_abort", "fault filter abort"),
}
