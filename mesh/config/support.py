"""Fields of Istio's kinds that this version does not carry out.

They are decoded and validated, then refused by name: what the mesh would silently ignore is an error. The compiler's
author and this table agree; a field leaves the table in the change that compiles it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mesh.config.problems import Path


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A field by its path, `[]` standing for every entry of a list; with `values`, only those of its values.

    `instead` says what to do.
    """

    path: str
    instead: str = "remove it"
    values: frozenset[str] | None = None

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(self.path.replace("[]", ".[]").split("."))


def _values(*words: str) -> frozenset[str]:
    return frozenset(words)


_VIRTUAL_SERVICE = (
    Unsupported("http[].match[].statPrefix"),
    Unsupported("http[].retries.retryRemoteLocalities"),
    Unsupported("http[].fault.abort.http2Error", "use httpStatus, as Istio asks too"),
    Unsupported("http[].fault.delay.exponentialDelay", "use fixedDelay, as Istio asks too"),
    Unsupported("tls[].match[].destinationSubnets"),
    Unsupported("tcp[].match[].destinationSubnets"),
    Unsupported("tcp[].match[].sourceSubnet"),
)

_POLICY = (
    Unsupported("loadBalancer.simple", "use LEAST_REQUEST, ROUND_ROBIN or RANDOM", _values("PASSTHROUGH")),
    Unsupported("connectionPool.tcp.idleTimeout"),
    Unsupported("outlierDetection.consecutiveErrors", "use consecutive5xxErrors or consecutiveGatewayErrors"),
    Unsupported("tls.credentialName", "name the certificate files"),
)

_WHOLE_POLICY = (
    *_POLICY,
    *(Unsupported(f"portLevelSettings[].{entry.path}", entry.instead, entry.values) for entry in _POLICY),
    Unsupported("tunnel"),
    Unsupported("proxyProtocol"),
)

_DESTINATION_RULE = (
    *(Unsupported(f"trafficPolicy.{entry.path}", entry.instead, entry.values) for entry in _WHOLE_POLICY),
    *(Unsupported(f"subsets[].trafficPolicy.{entry.path}", entry.instead, entry.values) for entry in _WHOLE_POLICY),
    Unsupported("workloadSelector"),
)

_GATEWAY = (
    Unsupported(
        "servers[].port.protocol",
        "use HTTP, HTTP2, GRPC, HTTPS or TLS",
        _values("TCP", "MONGO", "REDIS", "MYSQL", "GRPC-WEB"),
    ),
    Unsupported("servers[].bind"),
    Unsupported("servers[].defaultEndpoint"),
    Unsupported("servers[].tls.mode", "use PASSTHROUGH", _values("AUTO_PASSTHROUGH")),
    Unsupported("servers[].tls.tlsCertificates[].caCertificates", "name them once, in tls.caCertificates"),
)

_SERVICE_ENTRY = (
    Unsupported("resolution", "use DNS", _values("DYNAMIC_DNS")),
    Unsupported("endpoints[].network", "there is one network: leave it out"),
)

_TARGETS = (
    Unsupported("targetRef", "select workloads by a selector"),
    Unsupported("targetRefs", "select workloads by a selector"),
)

_AUTHORIZATION_POLICY = (
    Unsupported("action", "use ALLOW, DENY or AUDIT", _values("CUSTOM")),
    Unsupported("provider"),
    *_TARGETS,
)

UNSUPPORTED: Mapping[str, tuple[Unsupported, ...]] = {
    "VirtualService": _VIRTUAL_SERVICE,
    "DestinationRule": _DESTINATION_RULE,
    "Gateway": _GATEWAY,
    "PeerAuthentication": (),
    "AuthorizationPolicy": _AUTHORIZATION_POLICY,
    "RequestAuthentication": _TARGETS,
    "ServiceEntry": _SERVICE_ENTRY,
}
"""Kind to the fields of its `spec` that are refused."""


def unsupported_fields(kind: str, raw: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Every field of a document that this version would ignore, with what to say of it."""
    for entry in UNSUPPORTED.get(kind, ()):
        for path, value in _found(raw.get("spec"), entry.steps, ("spec",)):
            if entry.values is None and _is_set(value):
                yield path, f"{path[-1]} is not carried out by this version; {entry.instead}"
            elif entry.values is not None and str(value).upper() in entry.values:
                yield path, f"{path[-1]} {value} is not carried out by this version; {entry.instead}"


def _found(value: Any, steps: tuple[str, ...], path: Path) -> Iterator[tuple[Path, Any]]:
    if not steps:
        yield path, value
    elif steps[0] == "[]":
        for index, item in enumerate(value if isinstance(value, list) else ()):
            yield from _found(item, steps[1:], (*path, index))
    elif isinstance(value, Mapping) and steps[0] in value:
        yield from _found(value[steps[0]], steps[1:], (*path, steps[0]))


def _is_set(value: Any) -> bool:
    """A field written with its default (empty, false, zero) asks for nothing; an empty message (`warmup: {}`) does."""
    return isinstance(value, Mapping) or bool(value)
