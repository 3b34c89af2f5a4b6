"""Envoy's command operators (`REQ(USER-AGENT)`): the expression that each becomes, of a stream or a TCP connection `x`.

Of a stream, `h` is the request's head, `m` its marked headers and `c` the client's side; of a connection `c` is itself.

Tables and no more: how expressions become one function is `substitution`, what they call is `log_values`. Only text
from here, and names and constants as `repr`, goes into an expression. An operator that is not known is refused by name.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mesh.proxy.fields import Place
from mesh.proxy.http1.names import INLINE_IN_RESPONSES, MARKED
from mesh.proxy.observe.log_values import DURATION_POINTS, TimeFormat, cluster_metadata


class Kind(Enum):
    """What an expression yields: a number, a number or None, text (None or empty if absent), text that is never
    absent, bytes or None (a header, whose empty value is a value), or any JSON value.
    """

    NUMBER = 1
    NUMBER_OR_NONE = 2
    TEXT = 3
    ALWAYS = 4
    BYTES = 5
    JSON = 6


@dataclass(frozen=True, slots=True)
class Operator:
    """`code` is an expression of `x`; `names` are the objects that it mentions besides those of `log_values`."""

    code: str
    kind: Kind
    names: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One operator as a format says it. `name` is it whole, for refusals."""

    name: str
    argument: str
    length: int | None
    tcp: bool
    place: Place

    def refuse(self, reason: str) -> Exception:
        asked = self.name if not self.argument else f"{self.name}({self.argument})"
        return self.place.refuse(f"command operator %{asked}% {reason}")

    def made(self, code: str, kind: Kind, **names: Any) -> Operator:
        """The operator with its `:length`."""
        if self.length is None:
            return Operator(code, kind, names)
        if kind is Kind.BYTES:
            return Operator(f"cut_bytes({code}, {self.length})", kind, names)
        return Operator(f"cut({code}, {self.length})", Kind.TEXT, names)


def operator(asked: Asked) -> Operator:
    """Raises Refused."""
    make = _WITH_ARGUMENT.get(asked.name)
    if make is not None:
        return make(asked)
    found = (_OF_TCP if asked.tcp else _OF_HTTP).get(asked.name) or _OF_BOTH.get(asked.name)
    if found is None:
        raise asked.refuse("is not supported by this sidecar")
    if asked.argument or asked.length is not None:
        raise asked.refuse("does not take any parameters or length")
    code, kind = found
    return Operator(code.replace("@", "c"), kind, {})


# Operators with an argument


def _header(asked: Asked, code: Callable[[bytes], str]) -> Operator:
    names = [name.strip().lower().encode() for name in asked.argument.split("?")]
    if len(names) > 2 or not all(names):
        raise asked.refuse("takes one header name and at most one alternative")
    first, *other = (code(name) for name in names)
    whole = f"(y if (y := {first}) is not None else {other[0]})" if other else first
    return asked.made("None" if asked.tcp else whole, Kind.BYTES)


def _request_header(name: bytes) -> str:
    pseudo = {b":authority": "authority", b"host": "authority", b":method": "method", b":path": "target",
              b":scheme": "scheme"}.get(name)  # fmt: skip
    if pseudo is not None:
        return f"(h.{pseudo} or None)"
    return f"m.get({name!r})" if name in MARKED else f"h.first({name!r})"


def _response_header(name: bytes) -> str:
    if name == b":status":
        return '(b"%d" % x.status if x.status else None)'
    if name == b"x-envoy-upstream-service-time":  # whatever the upstream has said, ours is the only one
        return f"(r.marked.get({name!r}) if (r := x.response_head) is not None else None)"
    how = "get" if name in INLINE_IN_RESPONSES else "first"
    return f"(r.{how}({name!r}) if (r := x.response_head) is not None else None)"


def _trailer(name: bytes) -> str:
    return f"(r.get({name!r}) if (r := x.response_trailers) is not None else None)"


def _time(which: str, local: bool) -> Callable[[Asked], Operator]:
    def make(asked: Asked) -> Operator:
        if asked.length is not None:
            raise asked.refuse("does not take a length")
        if which == "start" and not local and not asked.argument:
            return Operator("iso(x)", Kind.ALWAYS, {})
        pattern = asked.argument or ("%Y-%m-%dT%H:%M:%S.%3f" + ("%z" if local else "Z"))
        name = f"time_{abs(hash((pattern, local)))}"
        code = f"{name}({'wall_start(x)' if which == 'start' else 'now()'})"
        return Operator(code, Kind.ALWAYS, {name: TimeFormat(pattern, local=local)})

    return make


def _common_duration(asked: Asked) -> Operator:
    start, end, unit = (*asked.argument.split(":"), "", "", "")[:3]
    factor = {"ms": "1e3", "us": "1e6", "ns": "1e9"}.get(unit)
    if start not in DURATION_POINTS or end not in DURATION_POINTS or factor is None:
        raise asked.refuse("takes two points in time that this sidecar knows and a precision (ms, us, ns)")
    if asked.tcp:
        return asked.made("None", Kind.NUMBER_OR_NONE)
    return asked.made(f"between({DURATION_POINTS[start]}, {DURATION_POINTS[end]}, {factor})", Kind.NUMBER_OR_NONE)


def _path_of(asked: Asked) -> list[str]:
    if not asked.argument:
        raise asked.refuse("requires parameters")
    return asked.argument.split(":")


def _endpoint_metadata(asked: Asked) -> Operator:
    return asked.made(f"endpoint_metadata(x, {_path_of(asked)!r})", Kind.JSON)


def _cluster_metadata(asked: Asked) -> Operator:
    name = f"cluster_metadata_{abs(hash(asked.argument))}"
    return asked.made(f"{name}(x)", Kind.JSON, **{name: cluster_metadata(_path_of(asked))})


def _dynamic_metadata(asked: Asked) -> Operator:
    return asked.made(f"dynamic_metadata(x, {_path_of(asked)!r})", Kind.JSON)


def _metadata(asked: Asked) -> Operator:
    of, _, path = asked.argument.partition(":")
    inner = {"CLUSTER": _cluster_metadata, "UPSTREAM_HOST": _endpoint_metadata, "DYNAMIC": _dynamic_metadata}.get(of)
    if inner is None or not path:
        raise asked.refuse("is not supported by this sidecar")
    return inner(Asked(asked.name, path, asked.length, asked.tcp, asked.place))


def _environment(asked: Asked) -> Operator:
    if not asked.argument:
        raise asked.refuse("requires parameters")
    return asked.made(repr(os.environ.get(asked.argument, "-")), Kind.ALWAYS)


def _query_parameter(asked: Asked) -> Operator:
    if not asked.argument:
        raise asked.refuse("requires parameters")
    code = "None" if asked.tcp else f"query_parameter(h.target, {asked.argument!r})"
    return asked.made(code, Kind.TEXT)


def _path(asked: Asked) -> Operator:
    query, _, which = (asked.argument or "WQ").partition(":")
    sources = {
        "ORIG": "m.get(b'x-envoy-original-path')",
        "PATH": "(h.target or None)",
        "": "(m.get(b'x-envoy-original-path') or h.target or None)",
    }
    source = sources.get(which.removesuffix("_OR_PATH"))
    if query not in ("WQ", "NQ") or source is None:
        raise asked.refuse("takes WQ or NQ, and ORIG, PATH or ORIG_OR_PATH")
    if asked.tcp:
        source = "None"
    return asked.made(f"without_query({source})" if query == "NQ" else source, Kind.BYTES)


def _grpc_status(asked: Asked) -> Operator:
    style = asked.argument or "CAMEL_STRING"
    if style not in ("CAMEL_STRING", "SNAKE_STRING", "NUMBER"):
        raise asked.refuse("takes CAMEL_STRING, SNAKE_STRING or NUMBER")
    if asked.tcp:
        return asked.made("None", Kind.TEXT)
    if style == "NUMBER":
        return asked.made("grpc_status(x)", Kind.NUMBER_OR_NONE)
    return asked.made(f"grpc_status_name(x, {style == 'SNAKE_STRING'})", Kind.TEXT)


def _certificate_time(which: str) -> Callable[[Asked], Operator]:
    def make(asked: Asked) -> Operator:
        pattern = asked.argument or "%Y-%m-%dT%H:%M:%S.000Z"
        return asked.made(f"certificate_time(c.peer, {which!r}, {pattern!r})", Kind.TEXT)

    return make


_WITH_ARGUMENT: Mapping[str, Callable[[Asked], Operator]] = {
    "REQ": lambda asked: _header(asked, _request_header),
    "REQ_WITHOUT_QUERY": lambda asked: _header(asked, lambda name: f"without_query({_request_header(name)})"),
    "RESP": lambda asked: _header(asked, _response_header),
    "TRAILER": lambda asked: _header(asked, _trailer),
    "START_TIME": _time("start", local=False),
    "START_TIME_LOCAL": _time("start", local=True),
    "EMIT_TIME": _time("emit", local=False),
    "EMIT_TIME_LOCAL": _time("emit", local=True),
    "COMMON_DURATION": _common_duration,
    "DYNAMIC_METADATA": _dynamic_metadata,
    "CLUSTER_METADATA": _cluster_metadata,
    "UPSTREAM_METADATA": _endpoint_metadata,
    "METADATA": _metadata,
    "ENVIRONMENT": _environment,
    "QUERY_PARAM": _query_parameter,
    "PATH": _path,
    "GRPC_STATUS": _grpc_status,
    "DOWNSTREAM_PEER_CERT_V_START": _certificate_time("notBefore"),
    "DOWNSTREAM_PEER_CERT_V_END": _certificate_time("notAfter"),
}

# Operators without: `@` is the downstream connection.
_HOST = "(o.address if (o := x.host) is not None else None)"
_HOST_NAME = "((x.host.endpoint.hostname or x.host.address) if x.host is not None else None)"
_SIDE: Mapping[str, str] = {
    "URI_SAN": "(','.join({}.uri_sans) if {} is not None else None)",
    "SUBJECT": "({}.subject if {} is not None else None)",
    "DNS_SAN": "names({}, 'DNS')",
    "IP_SAN": "names({}, 'IP Address')",
    "ISSUER": "issuer({})",
    "CERT": "pem({})",
}


def _peer_table() -> dict[str, tuple[str, Kind]]:
    """What the certificates say of those on either side."""
    table = {}
    for name, code in _SIDE.items():
        table[f"DOWNSTREAM_PEER_{name}"] = (code.replace("{}", "@.peer"), Kind.TEXT)
        table[f"UPSTREAM_PEER_{name}"] = (code.replace("{}", "x.upstream_peer"), Kind.TEXT)
    for side, peer in (("DOWNSTREAM", "@.peer"), ("UPSTREAM", "x.upstream_peer")):
        for name in ("VERSION", "CIPHER"):
            table[f"{side}_TLS_{name}"] = (f"({peer}.{name.lower()} if {peer} is not None else None)", Kind.TEXT)
    return table


def _addresses(sources: Mapping[str, str]) -> dict[str, tuple[str, Kind]]:
    table = {}
    for name, code in sources.items():
        table[f"{name}_ADDRESS"] = (code, Kind.TEXT)
        table[f"{name}_ADDRESS_WITHOUT_PORT"] = (f"ip_of({code})", Kind.TEXT)
        table[f"{name}_PORT"] = (f"port_of({code})", Kind.NUMBER_OR_NONE)
    return table


_OF_BOTH: Mapping[str, tuple[str, Kind]] = {
    **_peer_table(),
    **_addresses(
        {
            "DOWNSTREAM_LOCAL": "@.local_address",
            "DOWNSTREAM_DIRECT_LOCAL": "@.local_address",
            "DOWNSTREAM_REMOTE": "x.remote_address",
            "DOWNSTREAM_DIRECT_REMOTE": "@.info.direct_address",
        }
    ),
    "RESPONSE_CODE_DETAILS": ("x.details", Kind.TEXT),
    "RESPONSE_FLAGS": ("(x.flags or '-')", Kind.ALWAYS),
    "RESPONSE_FLAGS_LONG": ("long_flags(x.flags)", Kind.ALWAYS),
    "CONNECTION_TERMINATION_DETAILS": ("None", Kind.TEXT),
    "UPSTREAM_TRANSPORT_FAILURE_REASON": ("(x.transport_failure and x.transport_failure.replace(' ', '_'))", Kind.TEXT),
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON": ("None", Kind.TEXT),
    "BYTES_RECEIVED": ("x.bytes_received", Kind.NUMBER),
    "BYTES_SENT": ("x.bytes_sent", Kind.NUMBER),
    "DURATION": ("int(x.elapsed * 1000)", Kind.NUMBER),
    "UPSTREAM_HOST": (_HOST, Kind.TEXT),
    "UPSTREAM_HOST_NAME": (_HOST_NAME, Kind.TEXT),
    "UPSTREAM_HOST_NAME_WITHOUT_PORT": (f"name_of({_HOST_NAME})", Kind.TEXT),
    "UPSTREAM_CLUSTER": ("x.cluster_name", Kind.TEXT),
    "UPSTREAM_CLUSTER_RAW": ("x.cluster_name", Kind.TEXT),
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": ("x.attempts", Kind.NUMBER),
    "DOWNSTREAM_PEER_SERIAL": ("serial(@.peer)", Kind.TEXT),
    "DOWNSTREAM_PEER_FINGERPRINT_256": ("fingerprint(@.peer, 'sha256')", Kind.TEXT),
    "DOWNSTREAM_PEER_FINGERPRINT_1": ("fingerprint(@.peer, 'sha1')", Kind.TEXT),
    "REQUESTED_SERVER_NAME": ("@.info.server_name", Kind.TEXT),
    "HOSTNAME": (repr(socket.gethostname()), Kind.ALWAYS),
    "UNIQUE_ID": ("unique_id()", Kind.ALWAYS),
    "VIRTUAL_CLUSTER_NAME": ("None", Kind.TEXT),
    "CONNECTION_ID": ("@.connection_id", Kind.NUMBER),
}
_OF_HTTP: Mapping[str, tuple[str, Kind]] = {
    "LOCAL_REPLY_BODY": ('getattr(x, "local_body", "-")', Kind.ALWAYS),
    "PROTOCOL": ("@.protocol", Kind.TEXT),
    "RESPONSE_CODE": ("x.status", Kind.NUMBER),
    "ROUTE_NAME": ("(o.name if (o := x.route) is not None else None)", Kind.TEXT),
    "STREAM_ID": ("m.get(b'x-request-id')", Kind.BYTES),
    "UPSTREAM_PROTOCOL": ("(x.served_by.protocol if x.served_by is not None else None)", Kind.TEXT),
    **_addresses(
        {
            "UPSTREAM_LOCAL": "(o.local_address if (o := x.served_by) is not None else None)",
            "UPSTREAM_REMOTE": "(x.host.address if x.served_by is not None else None)",
        }
    ),
    "REQUEST_DURATION": ("between(x.started, received_at(x), 1e3)", Kind.NUMBER_OR_NONE),
    "REQUEST_TX_DURATION": ("between(x.started, forwarded_at(x), 1e3)", Kind.NUMBER_OR_NONE),
    "RESPONSE_DURATION": ("between(x.started, answered_at(x), 1e3)", Kind.NUMBER_OR_NONE),
    "RESPONSE_TX_DURATION": ("between(answered_at(x), x.started + x.elapsed, 1e3)", Kind.NUMBER_OR_NONE),
    "GRPC_STATUS_NUMBER": ("grpc_status(x)", Kind.NUMBER_OR_NONE),
    "ACCESS_LOG_TYPE": ("'DownstreamEnd'", Kind.ALWAYS),
    "TRACE_ID": ("(s.trace_id if (s := getattr(x, 'span', None)) is not None else None)", Kind.TEXT),
    "SPAN_ID": ("(s.span_id if (s := getattr(x, 'span', None)) is not None and s.form == 'w3c' else None)", Kind.TEXT),
}
# The access log of a listener sees connections of any kind as those of TCP.
_OF_TCP: Mapping[str, tuple[str, Kind]] = {
    "PROTOCOL": ("getattr(x, 'protocol', None)", Kind.TEXT),
    "FILTER_CHAIN_NAME": ("x.chain_name", Kind.TEXT),
    "RESPONSE_CODE": ("0", Kind.NUMBER),
    "CONNECTION_TERMINATION_DETAILS": ("x.termination", Kind.TEXT),
    "ROUTE_NAME": ("None", Kind.TEXT),
    "STREAM_ID": ("unique_id()", Kind.ALWAYS),
    "UPSTREAM_PROTOCOL": ("None", Kind.TEXT),
    **_addresses(
        {
            "UPSTREAM_LOCAL": "x.upstream_local_address",
            "UPSTREAM_REMOTE": "(x.host.address if x.upstream_local_address else None)",
        }
    ),
    "REQUEST_DURATION": ("None", Kind.NUMBER_OR_NONE),
    "REQUEST_TX_DURATION": ("None", Kind.NUMBER_OR_NONE),
    "RESPONSE_DURATION": ("None", Kind.NUMBER_OR_NONE),
    "RESPONSE_TX_DURATION": ("None", Kind.NUMBER_OR_NONE),
    "GRPC_STATUS_NUMBER": ("None", Kind.NUMBER_OR_NONE),
    "ACCESS_LOG_TYPE": ("getattr(x, 'log_type', 'TcpConnectionEnd')", Kind.ALWAYS),
    "TRACE_ID": ("None", Kind.TEXT),
    "SPAN_ID": ("None", Kind.TEXT),
}
