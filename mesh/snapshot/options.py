"""What Istio keeps in MeshConfig: settings of the mesh as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """`root_namespace` holds mesh-wide policies; under REGISTRY_ONLY unknown hosts get 502 from `BlackHoleCluster`."""

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    outbound_traffic_policy: Literal["ALLOW_ANY", "REGISTRY_ONLY"] = "ALLOW_ANY"
