"""What DNS answers in a namespace: the full name of every service, and its addresses (Istio's NameTable)."""

from __future__ import annotations

from mesh.registry.types import Service
from mesh.snapshot.order import exported
from mesh.snapshot.snapshot import MeshSnapshot


def name_table(snapshot: MeshSnapshot, namespace: str) -> dict[str, list[str]]:
    """Addresses by full name, both in order, of the services that the namespace sees.

    A headless service has the addresses of its ready workloads, each of which also has a name of its own below the
    service's. A name without an address is left out: it does not exist.
    """
    table: dict[str, list[str]] = {}
    for host, service in sorted(snapshot.services.items()):
        if not exported(service.export_to, service.namespace, namespace):
            continue
        if service.headless:
            table.update(_members(snapshot, service))
        elif service.address:
            table[host] = sorted(service.addresses)
    return table


def _members(snapshot: MeshSnapshot, service: Service) -> dict[str, list[str]]:
    members = {own.workload.name: own.workload.address for own in snapshot.endpoints.get(service.host, ())}
    own_names = {f"{name}.{service.host}": [address] for name, address in sorted(members.items())}
    return {service.host: sorted(set(members.values())), **own_names} if members else {}
