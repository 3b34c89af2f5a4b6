"""The snapshot itself: one consistent, immutable picture, shared by every compile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mesh.api.authorization_policy import AuthorizationPolicy
from mesh.api.request_authentication import RequestAuthentication
from mesh.registry.types import Endpoint, Service, Workload, WorkloadKey
from mesh.snapshot.credentials import CredentialIndex
from mesh.snapshot.destination_rules import DestinationRuleIndex
from mesh.snapshot.gateways import GatewayIndex
from mesh.snapshot.options import MeshOptions
from mesh.snapshot.peer_authentication import PeerAuthenticationIndex
from mesh.snapshot.scoped import ScopedIndex
from mesh.snapshot.virtual_services import VirtualServiceIndex


@dataclass(frozen=True, slots=True)
class MeshSnapshot:
    """Everything that configuration is compiled from.

    `resource_version` is the store's that this picture shows. `config_generation` rises with every change that may
    alter more than endpoint lists; between snapshots of one generation only `endpoints` differ. What did not change
    is the same object as in the former snapshot, so that `is` answers "did it change?".
    """

    options: MeshOptions
    resource_version: int
    config_generation: int
    destination_rules: DestinationRuleIndex
    virtual_services: VirtualServiceIndex
    gateways: GatewayIndex
    peer_authentication: PeerAuthenticationIndex
    authorization: ScopedIndex[AuthorizationPolicy]
    request_authentication: ScopedIndex[RequestAuthentication]
    credentials: CredentialIndex = field(default_factory=CredentialIndex)
    services: Mapping[str, Service] = field(default_factory=dict)
    workloads: Mapping[WorkloadKey, Workload] = field(default_factory=dict)
    endpoints: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    accounts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    selecting: Mapping[WorkloadKey, tuple[Service, ...]] = field(default_factory=dict)
