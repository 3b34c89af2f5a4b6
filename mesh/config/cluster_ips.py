"""Cluster IPs: every Service gets an address of its own, as the Kubernetes API server hands them out.

Which one is taken from the Service's name, so that a mesh that is set up again has the same addresses where it can.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from mesh.api.core import Service
from mesh.config.keys import Key

DEFAULT_RANGE: Final = IPv4Network("10.96.0.0/16")
"""That of kubeadm, cut to what a mesh on one machine needs."""
SMALLEST_PREFIX: Final = 28
"""With fewer addresses than that nothing would be left beside the reserved ones."""
HEADLESS: Final = "None"


class NoAddressLeftError(Exception):
    """Every address of the range is some Service's."""


def cluster_ip_of(service: Service) -> str:
    """Its address; empty if it has none (yet), or is not to have one."""
    address = service.spec.cluster_ip
    return "" if address == HEADLESS or service.spec.type == "ExternalName" else address


def wants_cluster_ip(service: Service) -> bool:
    """Whether it is to get an address: it has none, and is neither headless nor an alias."""
    return not service.spec.cluster_ip and service.spec.type != "ExternalName"


def with_cluster_ip(raw: Mapping[str, Any], address: str) -> dict[str, Any]:
    """The Service's document with this address."""
    return {**raw, "spec": {**(raw.get("spec") or {}), "clusterIP": address}}


def free_address(network: IPv4Network, key: Key, taken: Iterable[str]) -> str:
    """An address that nobody has. Raises NoAddressLeftError.

    The lower part is left to users who choose addresses themselves, the same part as in Kubernetes.
    """
    used = set(taken)
    reserved = min(max(16, network.num_addresses // 16), 256) if network.num_addresses > 32 else 1
    usable = network.num_addresses - reserved - 1  # less the broadcast address
    start = zlib.crc32(f"{key.namespace}/{key.name}".encode()) % usable
    first = int(network.network_address) + reserved
    for offset in range(usable):
        address = str(IPv4Address(first + (start + offset) % usable))
        if address not in used:
            return address
    raise NoAddressLeftError(f"no address is left of {network}")
