"""Istio's PeerAuthentication (istio/api security/v1beta1/peer_authentication.proto), every field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from mesh.api.fields import IstioStatus
from mesh.api.meta import Resource, WorkloadSelector


class MutualTLSMode(StrEnum):
    """UNSET inherits from the next wider scope."""

    UNSET = "UNSET"
    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


@dataclass(frozen=True, slots=True, kw_only=True)
class MutualTLS:
    mode: MutualTLSMode = MutualTLSMode.UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAuthenticationSpec:
    """`port_level_mtls` is keyed by the workload's container port, not the Service's."""

    selector: WorkloadSelector | None = None
    mtls: MutualTLS | None = None
    port_level_mtls: Mapping[int, MutualTLS] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAuthentication(Resource):
    KIND: ClassVar[str] = "PeerAuthentication"

    spec: PeerAuthenticationSpec = field(default_factory=PeerAuthenticationSpec)
    status: IstioStatus = field(default_factory=dict)
