"""Hosts of VirtualServices and Gateways that clash, or do not meet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from mesh.api.gateway import Gateway, Server
from mesh.api.virtual_service import VirtualService
from mesh.config.analyze.message import (
    CONFLICTING_GATEWAYS,
    CONFLICTING_MESH_GATEWAY_HOSTS,
    DUPLICATE_CERTIFICATE,
    HOST_NOT_IN_GATEWAY,
    SUBSET_INEFFECTIVE_AT_INGRESS,
    Message,
    about,
)
from mesh.config.analyze.view import MESH_GATEWAY, Of, View, bound_gateways, full_host, routed


def mesh_hosts(view: View) -> Iterator[Message]:
    """IST0109: several VirtualServices of the mesh's sidecars share a host; the oldest wins, the rest do nothing."""
    sharing: dict[str, list[Of[VirtualService]]] = defaultdict(list)
    for found in view.virtual_services:
        if MESH_GATEWAY in bound_gateways(found.resource):
            for host in found.resource.spec.hosts:
                sharing[full_host(host, found.resource.namespace)].append(found)
    for host, owners in sharing.items():
        visible = [[one for one in owners if _meet(one.resource, other.resource)] for other in owners]
        for owner, group in zip(owners, visible, strict=True):
            if len(group) > 1:
                names = ",".join(f"{each.resource.namespace}/{each.resource.name}" for each in group)
                text = f"The VirtualServices {names} associated with mesh gateway define the same host {host}: "
                text += "the oldest wins and the others are ignored"
                yield about(owner.manifest, ("spec", "hosts"), CONFLICTING_MESH_GATEWAY_HOSTS, text)


def _meet(one: VirtualService, other: VirtualService) -> bool:
    """Whether some namespace sees both."""

    def seen_by(resource: VirtualService) -> set[str] | None:
        names = {resource.namespace if name == "." else name for name in resource.spec.export_to}
        return None if not names or "*" in names else names

    first, second = seen_by(one), seen_by(other)
    return first is None or second is None or bool(first & second)


def gateway_hosts(view: View) -> Iterator[Message]:
    """IST0132: a VirtualService is bound to a Gateway that serves none of its hosts."""
    for found in view.virtual_services:
        for index, key in enumerate(bound_gateways(found.resource)):
            gateway = view.gateways.get(key)
            if gateway is None:
                continue
            served = [host for server in gateway.resource.spec.servers for host in server.hosts]
            missing = [host for host in found.resource.spec.hosts if not any(_served(host, each) for each in served)]
            if missing:
                text = f"One or more host {missing} defined in VirtualService "
                text += f"{found.resource.namespace}/{found.resource.name} not found in Gateway {key}"
                yield about(found.manifest, ("spec", "gateways", index), HOST_NOT_IN_GATEWAY, text)


def _served(host: str, served: str) -> bool:
    return overlap(host, served.rpartition("/")[2])


def overlap(one: str, other: str) -> bool:
    """Whether some host fits both patterns, each a name or a wildcard such as `*.com`."""
    if one.startswith("*") and other.startswith("*"):
        return one.endswith(other[1:]) or other.endswith(one[1:])
    if one.startswith("*"):
        return other.endswith(one[1:])
    return one == other or (other.startswith("*") and one.endswith(other[1:]))


def ingress_subsets(view: View) -> Iterator[Message]:
    """IST0140: subset routes of the mesh's sidecars that requests through a Gateway go around."""
    for found in view.virtual_services:
        if bound_gateways(found.resource) != [MESH_GATEWAY]:
            continue
        hosts = {full_host(host, found.resource.namespace) for host in found.resource.spec.hosts}
        subset = next((target for target in routed(found.resource) if target.destination.subset), None)
        if subset is None:
            continue
        for other in view.virtual_services:
            gateways = [key for key in bound_gateways(other.resource) if key != MESH_GATEWAY]
            if gateways and any(each.host in hosts and not each.destination.subset for each in routed(other.resource)):
                text = f"Subset in virtual service {found.resource.namespace}/{found.resource.name} has no effect on "
                text += f"ingress gateway {gateways[0]} requests: {other.manifest} routes them past it"
                yield about(found.manifest, subset.path, SUBSET_INEFFECTIVE_AT_INGRESS, text)


def conflicting_gateways(view: View) -> Iterator[Message]:
    """IST0145: two Gateways of the same workloads claim the same hosts on one port."""
    for key, index, server, other in _pairs_on_one_port(view):
        shared = [host for host in server.hosts if any(_claims_overlap(host, each) for each in other[1].hosts)]
        if shared:
            found = view.gateways[key]
            text = f"Conflict with gateways {other[0]} (workload selector {_selector(found.resource)}, "
            text += f"port {server.port.number if server.port else 0}, hosts {','.join(shared)})"
            yield about(found.manifest, ("spec", "servers", index), CONFLICTING_GATEWAYS, text)


def _pairs_on_one_port(view: View) -> Iterator[tuple[str, int, Server, tuple[str, Server]]]:
    servers = [
        (key, index, server)
        for key, gateway in view.gateways.items()
        for index, server in enumerate(gateway.resource.spec.servers)
        if server.port is not None
    ]
    for key, index, server in servers:
        selector = view.gateways[key].resource.spec.selector
        for other_key, _, other in servers:
            same = selector == view.gateways[other_key].resource.spec.selector
            if other_key != key and same and server.port and other.port and server.port.number == other.port.number:
                yield key, index, server, (other_key, other)


def _claims_overlap(one: str, other: str) -> bool:
    namespace, _, host = one.rpartition("/")
    other_namespace, _, other_host = other.rpartition("/")
    everywhere = namespace in ("", "*") or other_namespace in ("", "*")
    return host == other_host and (everywhere or namespace == other_namespace)


def _selector(gateway: Gateway) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(gateway.spec.selector.items())) or "none"


def duplicate_certificates(view: View) -> Iterator[Message]:
    """IST0138: Gateways of the same workloads share a certificate: browsers reuse connections and get a 404."""
    holders: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for key, gateway in view.gateways.items():
        for index, server in enumerate(gateway.resource.spec.servers):
            certificate = server.tls and (server.tls.credential_name or server.tls.server_certificate)
            if certificate:
                holders[_selector(gateway.resource), certificate].append((key, index))
    for group in holders.values():
        names = sorted({key for key, _ in group})
        for key, index in group if len(names) > 1 else ():
            text = f"Duplicate certificate in multiple gateways [{', '.join(names)}] may cause 404s if clients "
            text += "re-use HTTP2 connections"
            yield about(view.gateways[key].manifest, ("spec", "servers", index), DUPLICATE_CERTIFICATE, text)
