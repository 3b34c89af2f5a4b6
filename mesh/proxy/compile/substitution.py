"""Envoy's command operators (`%REQ(USER-AGENT)%`), compiled to functions of a finished exchange.

An operator that is not known here is refused by name. A value that is absent is "-" in a log.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from mesh.proxy.fields import Place

# Logs are of HTTP exchanges and of TCP connections; what one of them lacks reads as absent.
Subject = Any
Text = Callable[[Subject], str | None]

_OPERATOR = re.compile(r"%(?:%|([A-Z0-9_]+)(?:\(([^)]*)\))?(?::(\d+))?%)")


def compile_text(template: str, place: Place) -> Callable[[Subject], str]:
    """A format string as one function. Raises Refused."""
    parts = _parts(template, place)
    pattern = "".join(part.replace("%", "%%") if isinstance(part, str) else "%s" for part in parts)
    values = tuple(part for part in parts if not isinstance(part, str))

    def render(subject: Subject) -> str:
        return pattern % tuple([value(subject) or "-" for value in values])

    return render


def compile_json(template: Mapping[str, Any], place: Place) -> Callable[[Subject], str]:
    """A JSON format: string leaves are format strings; a leaf of one operator keeps its type, and is null when absent."""
    make = _json_value(template, place)
    return lambda subject: json.dumps(make(subject), separators=(",", ":"), ensure_ascii=False)


def _json_value(template: Any, place: Place) -> Callable[[Subject], Any]:
    if isinstance(template, Mapping):
        members = [(key, _json_value(value, place.at(key))) for key, value in template.items()]
        return lambda subject: {key: make(subject) for key, make in members}
    if isinstance(template, list):
        items = [_json_value(value, place) for value in template]
        return lambda subject: [make(subject) for make in items]
    if not isinstance(template, str):
        return lambda subject: template
    parts = _parts(template, place)
    if len(parts) == 1 and not isinstance(parts[0], str):
        value = parts[0]
        is_number = template.strip("%").partition("(")[0] in _NUMBERS
        if is_number:
            return lambda subject: None if (text := value(subject)) is None else int(text)
        return value
    return compile_text(template, place)


def _parts(template: str, place: Place) -> list[str | Text]:
    parts: list[str | Text] = []
    at = 0
    for found in _OPERATOR.finditer(template):
        parts.append(template[at : found.start()])
        at = found.end()
        if found[1] is None:
            parts.append("%")
        else:
            parts.append(_operator(found[1], found[2], found[3], place))
    parts.append(template[at:])
    if "%" in "".join(part for part in parts if isinstance(part, str)).replace("%%", "") and "%%" not in template:
        raise place.refuse(f"malformed command operator in {template!r}")
    return [part for part in parts if part != ""]


def _operator(name: str, argument: str | None, length: str | None, place: Place) -> Text:
    text = _plain_operator(name, argument, place)
    if length is None:
        return text
    limit = int(length)
    return lambda subject: None if (value := text(subject)) is None else value[:limit]


def _plain_operator(name: str, argument: str | None, place: Place) -> Text:
    if name == "REQ":
        return _header(argument or "", request_header, place)
    if name == "RESP":
        return _header(argument or "", response_header, place)
    if name == "START_TIME":
        return _start_time(argument)
    if name in ("UPSTREAM_METADATA", "METADATA"):
        return _endpoint_metadata((argument or "").removeprefix("UPSTREAM_HOST:"))
    simple = _SIMPLE.get(name)
    if simple is None or argument is not None:
        raise place.refuse(f"command operator %{name}{f'({argument})' if argument is not None else ''}% is not supported")
    return simple


def _header(argument: str, get: Callable[[Subject, bytes], bytes | None], place: Place) -> Text:
    names = [name.strip().lower().encode() for name in argument.split("?")]
    if len(names) > 2 or not all(names):
        raise place.refuse(f"bad header name {argument!r} in a command operator")
    first = names[0]
    if len(names) == 1:
        return lambda subject: None if (value := get(subject, first)) is None else value.decode("latin-1")
    second = names[1]

    def either(subject: Subject) -> str | None:
        value = get(subject, first)
        if value is None:
            value = get(subject, second)
        return None if value is None else value.decode("latin-1")

    return either


def request_header(subject: Subject, name: bytes) -> bytes | None:
    """A header of the request, pseudo-headers included."""
    head = getattr(subject, "head", None)
    if head is None:
        return None
    if name == b":authority":
        return head.authority or None
    if name == b":method":
        return head.method or None
    if name == b":path":
        return head.target or None
    if name == b":scheme":
        return head.marked.get(b"x-forwarded-proto")
    return head.get(name)


def response_header(subject: Subject, name: bytes) -> bytes | None:
    head = getattr(subject, "response_head", None)
    if head is None:
        return None
    if name == b":status":
        return b"%d" % head.status
    return head.get(name)


def _start_time(pattern: str | None) -> Text:
    if pattern is None:
        return _iso_start
    return lambda subject: datetime.fromtimestamp(_wall_start(subject), UTC).strftime(pattern)


def _wall_start(subject: Subject) -> float:
    return time.time() - (time.monotonic() - subject.started)


_second = (0, "")


def _iso_start(subject: Subject) -> str:
    global _second  # noqa: PLW0603 - the text of the present second, so that it is formatted once
    start = _wall_start(subject)
    whole = int(start)
    if whole != _second[0]:
        _second = (whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)))
    return f"{_second[1]}.{int((start - whole) * 1000):03d}Z"


def _endpoint_metadata(argument: str) -> Text:
    names = argument.split(":")

    def read(subject: Subject) -> str | None:
        value: Any = subject.host.endpoint.metadata if subject.host is not None else None
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return None if value is None else str(value)

    return read


def _peer(field: str) -> Text:
    def read(subject: Subject) -> str | None:
        peer = getattr(subject, "connection", subject).peer
        return getattr(peer, field) or None if peer is not None else None

    return read


def _peer_uri_sans(subject: Subject) -> str | None:
    peer = getattr(subject, "connection", subject).peer
    return ",".join(peer.uri_sans) or None if peer is not None else None


def _upstream_peer_uri_sans(subject: Subject) -> str | None:
    peer = subject.upstream_peer
    return ",".join(peer.uri_sans) or None if peer is not None else None


def _connection(field: str) -> Text:
    return lambda subject: getattr(getattr(subject, "connection", subject), field)


def _without_port(text: Text) -> Text:
    return lambda subject: None if (value := text(subject)) is None else value.rpartition(":")[0]


def _port(text: Text) -> Text:
    return lambda subject: None if (value := text(subject)) is None else value.rpartition(":")[2]


def _host_address(subject: Subject) -> str | None:
    return subject.host.address if subject.host is not None else None


def _duration(subject: Subject) -> str:
    return str(int((time.monotonic() - subject.started) * 1000))


def _absent(subject: Subject) -> None:
    return None


_local = _connection("local_address")
_remote = _connection("remote_address")
_NUMBERS = frozenset(
    ("RESPONSE_CODE", "BYTES_RECEIVED", "BYTES_SENT", "DURATION", "UPSTREAM_REQUEST_ATTEMPT_COUNT", "CONNECTION_ID")
)
_SIMPLE: Mapping[str, Text] = {
    "PROTOCOL": lambda subject: "HTTP/1.1" if getattr(subject, "method", None) else None,
    "RESPONSE_CODE": lambda subject: str(getattr(subject, "status", 0)),
    "RESPONSE_CODE_DETAILS": lambda subject: subject.details.replace(" ", "_") or None,
    "RESPONSE_FLAGS": lambda subject: subject.flags or None,
    "CONNECTION_TERMINATION_DETAILS": _absent,
    "UPSTREAM_TRANSPORT_FAILURE_REASON": lambda subject: subject.transport_failure.replace(" ", "_") or None,
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON": _absent,
    "BYTES_RECEIVED": lambda subject: str(subject.bytes_received),
    "BYTES_SENT": lambda subject: str(subject.bytes_sent),
    "DURATION": _duration,
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": lambda subject: str(getattr(subject, "attempts", 0)),
    "UPSTREAM_HOST": _host_address,
    "UPSTREAM_REMOTE_ADDRESS": _host_address,
    "UPSTREAM_CLUSTER": lambda subject: subject.cluster_name or None,
    "UPSTREAM_CLUSTER_RAW": lambda subject: subject.cluster_name or None,
    "UPSTREAM_LOCAL_ADDRESS": lambda subject: subject.upstream_local_address or None,
    "UPSTREAM_PEER_URI_SAN": _upstream_peer_uri_sans,
    "DOWNSTREAM_LOCAL_ADDRESS": _local,
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": _without_port(_local),
    "DOWNSTREAM_LOCAL_PORT": _port(_local),
    "DOWNSTREAM_REMOTE_ADDRESS": _remote,
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": _without_port(_remote),
    "DOWNSTREAM_REMOTE_PORT": _port(_remote),
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": _remote,
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": _without_port(_remote),
    "DOWNSTREAM_PEER_URI_SAN": _peer_uri_sans,
    "DOWNSTREAM_PEER_SUBJECT": _peer("subject"),
    "DOWNSTREAM_TLS_VERSION": _peer("version"),
    "DOWNSTREAM_TLS_CIPHER": _peer("cipher"),
    "REQUESTED_SERVER_NAME": _peer("sni"),
    "ROUTE_NAME": lambda subject: (
        route.name or None if (route := getattr(subject, "route", None)) is not None else None
    ),
    "GRPC_STATUS": _absent,
    "GRPC_STATUS_NUMBER": _absent,
}
