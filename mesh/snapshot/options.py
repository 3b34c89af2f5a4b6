"""What Istio keeps in MeshConfig: settings of the mesh as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.api.mesh_config import OutboundTrafficPolicyMode


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """`root_namespace` holds mesh-wide policies; under REGISTRY_ONLY unknown hosts get 502."""

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    outbound_traffic_policy: OutboundTrafficPolicyMode = OutboundTrafficPolicyMode.ALLOW_ANY

    @property
    def registry_only(self) -> bool:
        return self.outbound_traffic_policy is OutboundTrafficPolicyMode.REGISTRY_ONLY
