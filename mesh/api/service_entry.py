"""Istio's ServiceEntry (istio/api networking/v1alpha3/service_entry.proto), every field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from mesh.api.fields import IstioStatus
from mesh.api.meta import Resource


class Location(StrEnum):
    """Whether the hosts are parts of the mesh, which decides on mutual TLS."""

    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


class Resolution(StrEnum):
    """How the hosts' addresses are found. NONE: they are where the client connects to."""

    NONE = "NONE"
    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEntryPort:
    """`target_port` 0 means the same number."""

    number: int = 0
    protocol: str = ""
    name: str = ""
    target_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadEntrySpec:
    """An endpoint; `ports` are numbers by the ServiceEntry's port names."""

    address: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str = ""
    locality: str = ""
    weight: int = 0
    service_account: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledWorkloads:
    """istio.networking.v1alpha3.WorkloadSelector, which spells its labels otherwise than its namesake."""

    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEntrySpec:
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ports: tuple[ServiceEntryPort, ...] = ()
    location: Location = Location.MESH_EXTERNAL
    resolution: Resolution = Resolution.NONE
    endpoints: tuple[WorkloadEntrySpec, ...] = ()
    workload_selector: LabelledWorkloads | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEntry(Resource):
    KIND: ClassVar[str] = "ServiceEntry"

    spec: ServiceEntrySpec = field(default_factory=ServiceEntrySpec)
    status: IstioStatus = field(default_factory=dict)
