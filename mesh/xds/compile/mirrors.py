"""Where copies of a route's requests go, and how many of them."""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.route.v3.route_components_pb2 import RouteAction

from mesh.api import virtual_service as api
from mesh.xds.compile.destinations import Destinations
from mesh.xds.compile.messages import percentage

_ALL = 100.0


def mirror_policies(
    http: api.HTTPRoute, namespace: str, port: int, destinations: Destinations
) -> Iterator[RouteAction.RequestMirrorPolicy]:
    """One for each mirror that gets any; what is not said is all."""
    for destination, share in _mirrors(http):
        if share > 0:
            policy = RouteAction.RequestMirrorPolicy(cluster=destinations.cluster(destination, namespace, port))
            policy.runtime_fraction.default_value.CopyFrom(percentage(share))
            policy.trace_sampled.value = False
            yield policy


def _mirrors(http: api.HTTPRoute) -> Iterator[tuple[api.Destination, float]]:
    """The percentage counts before the older whole number."""
    for entry in http.mirrors:
        yield entry.destination, entry.percentage.value if entry.percentage is not None else _ALL
    if http.mirror is not None:
        older = _ALL if http.mirror_percent is None else float(http.mirror_percent)
        yield http.mirror, http.mirror_percentage.value if http.mirror_percentage is not None else older
