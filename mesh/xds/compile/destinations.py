"""Where a route's destination leads: its cluster, and by what of a request a host of that is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from envoy.config.route.v3.route_components_pb2 import RouteAction

from mesh.api.destination_rule import ConsistentHashLB
from mesh.api.virtual_service import Destination
from mesh.registry.types import Service, resolve_host
from mesh.snapshot.destination_rules import DestinationRuleIndex, MergedRule
from mesh.xds.compile import names
from mesh.xds.compile.messages import duration
from mesh.xds.compile.policy import effective


@dataclass(frozen=True, slots=True)
class Destinations:
    """`services` are those that routes may lead to; `rules` by host are those of them that hash."""

    services: Mapping[str, Service] = field(default_factory=dict)
    rules: Mapping[str, MergedRule] = field(default_factory=dict)

    def cluster(self, destination: Destination, namespace: str, listened: int) -> str:
        """Its name, given the VirtualService's namespace and the port that is listened on.

        A host or subset nobody defined gives the name of a cluster that does not exist: 503 NC at the proxy.
        """
        host, port = self._place(destination, namespace, listened)
        return names.outbound_cluster(port, destination.subset, host)

    def hashing(self, destination: Destination, namespace: str, listened: int) -> ConsistentHashLB | None:
        """What the destination's rule hashes, if it does."""
        host, port = self._place(destination, namespace, listened)
        return hashing(self.rules.get(host), destination.subset, port)

    def _place(self, destination: Destination, namespace: str, listened: int) -> tuple[str, int]:
        """Istio's rule for the port: the named one; else a service's only port; else the one listened on."""
        host = resolve_host(destination.host, namespace)
        service = self.services.get(host)
        if destination.port is not None and destination.port.number:
            return host, destination.port.number
        return host, service.ports[0].number if service is not None and len(service.ports) == 1 else listened


def hashing(rule: MergedRule | None, subset: str, port: int) -> ConsistentHashLB | None:
    """What is hashed for a port and subset (or the empty name) of the rule's host."""
    if rule is None or not rule.hashes:
        return None
    chosen = next((own for own in rule.subsets if own.name == subset), None)
    balancer = effective(rule, chosen, port).load_balancer
    return balancer.consistent_hash if balancer else None


def hashing_rules(
    services: Iterable[Service], rules: DestinationRuleIndex, viewer: str
) -> Iterator[tuple[str, MergedRule]]:
    """Of the services' rules, those that hash, by host."""
    if not rules.hashes:
        return
    for service in services:
        rule = rules.lookup(service, viewer)
        if rule is not None and rule.hashes:
            yield service.host, rule


def hash_policy(what: ConsistentHashLB) -> RouteAction.HashPolicy | None:
    """None where nothing is named to hash: requests then go anywhere."""
    policy = RouteAction.HashPolicy()
    if what.http_header_name is not None:
        policy.header.header_name = what.http_header_name
    elif what.http_cookie is not None:
        cookie = what.http_cookie
        policy.cookie.name, policy.cookie.path = cookie.name, cookie.path
        if cookie.ttl is not None:
            policy.cookie.ttl.CopyFrom(duration(cookie.ttl))
        for attribute in cookie.attributes:
            policy.cookie.attributes.add(name=attribute.name, value=attribute.value)
    elif what.use_source_ip:
        policy.connection_properties.source_ip = True
    elif what.http_query_parameter_name is not None:
        policy.query_parameter.name = what.http_query_parameter_name
    else:
        return None
    return policy
