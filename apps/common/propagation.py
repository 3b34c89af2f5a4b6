"""Headers that a service hands on, so that a trace, a user and a session reach the services behind it."""

from __future__ import annotations

from werkzeug.datastructures import Headers

TRACE = (
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "grpc-trace-bin",
)
CALLER = ("user-agent", "cookie", "authorization", "jwt")
END_USER = "end-user"


def propagated(headers: Headers, *more: str) -> dict[str, str]:
    """Those of the headers of the request being served that go with the calls it causes; `more` names others."""
    return {name: headers[name] for name in (*TRACE, *CALLER, *more) if name in headers}
