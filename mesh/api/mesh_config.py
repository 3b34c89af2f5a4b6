"""Istio's MeshConfig, as far as it is carried out: the key `mesh` of the ConfigMap `istio` in the root namespace."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class OutboundTrafficPolicyMode(StrEnum):
    """What becomes of traffic to hosts that the registry does not know."""

    REGISTRY_ONLY = "REGISTRY_ONLY"
    ALLOW_ANY = "ALLOW_ANY"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundTrafficPolicy:
    mode: OutboundTrafficPolicyMode = OutboundTrafficPolicyMode.ALLOW_ANY


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshConfig:
    """Of the fields with one value that is all there is: anything else would have to be ignored."""

    outbound_traffic_policy: OutboundTrafficPolicy = field(default_factory=OutboundTrafficPolicy)
    root_namespace: Literal["istio-system"] = "istio-system"
    trust_domain: Literal["cluster.local"] = "cluster.local"
    access_log_file: Literal["/dev/stdout"] = "/dev/stdout"
