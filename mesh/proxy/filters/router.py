"""The options of the router (`envoy.filters.http.router`), which is the last filter of a chain; what it does besides is
`Exchange`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from envoy.extensions.filters.http.router.v3.router_pb2 import Router

from mesh.proxy.compile.values import unpack
from mesh.proxy.fields import Place, check
from mesh.proxy.http.request_head import number
from mesh.proxy.http.retry import CONDITIONS, GRPC_CONDITIONS

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Steps, Surroundings
    from mesh.proxy.http.stream import Stream

TYPE = Router.DESCRIPTOR.full_name
SUPPORTED = {
    TYPE: frozenset(("dynamic_stats", "suppress_envoy_headers", "strict_check_headers", "respect_expected_rq_timeout"))
}
_EXPECTED, _WANTED = b"x-envoy-expected-rq-timeout-ms", b"x-envoy-upstream-rq-timeout-ms"
_OURS = frozenset((b"x-envoy-upstream-service-time", b"x-envoy-overloaded"))


def add(steps: Steps, packed: Any, around: Surroundings, place: Place) -> None:
    """Raises Refused."""
    config = unpack(packed, Router, place)
    check(config, SUPPORTED, place)
    if config.HasField("dynamic_stats") and not config.dynamic_stats.value:
        raise place.refuse("false is not supported by this sidecar", "dynamic_stats")
    steps.is_router = True
    steps.suppresses_envoy_headers = config.suppress_envoy_headers
    if config.strict_check_headers:
        steps.request.append(_strict_check(config.strict_check_headers, place))
    if config.respect_expected_rq_timeout:
        steps.request.append(_respect_expected)
    if config.suppress_envoy_headers:
        steps.response.append(_suppress)


def _respect_expected(stream: Stream) -> bool:
    """The timeout that a sidecar before us has told stands over our own route's."""
    marked = stream.head.marked
    if number(marked.get(_EXPECTED)) is not None:
        marked[_WANTED] = marked[_EXPECTED]
    return False


def _suppress(stream: Stream) -> None:
    assert stream.response_head is not None
    stream.response_head.remove(_OURS)


def _strict_check(names: Any, place: Place) -> Callable[[Stream], bool]:
    checks = []
    for name in names:
        if name.lower() not in _VALID:
            raise place.refuse(f"{name} cannot be checked", "strict_check_headers")
        checks.append((name.lower().encode(), _VALID[name.lower()]))

    def step(stream: Stream) -> bool:
        if stream.target is None:  # it goes nowhere that these headers could steer
            return False
        for name, is_valid in checks:
            value = stream.head.marked.get(name)
            if value is not None and not is_valid(value):
                text = b"invalid header '%b' with value '%b'" % (name, value)
                stream.reply(400, text, "IH", f"request_headers_failed_strict_check{{{name.decode()}}}")
                return True
        return False

    return step


def _is_number(value: bytes) -> bool:
    return number(value) is not None


def _names_conditions(known: frozenset[str]) -> Callable[[bytes], bool]:
    return lambda value: all(name.strip() in known for name in value.decode("latin-1").split(","))


_VALID: dict[str, Callable[[bytes], bool]] = {
    "x-envoy-upstream-rq-timeout-ms": _is_number,
    "x-envoy-upstream-rq-per-try-timeout-ms": _is_number,
    "x-envoy-max-retries": _is_number,
    "x-envoy-retry-on": _names_conditions(CONDITIONS),
    "x-envoy-retry-grpc-on": _names_conditions(frozenset(GRPC_CONDITIONS.values())),
}
