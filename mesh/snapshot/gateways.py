"""Gateways by the workload they select."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mesh.api.gateway import Gateway
from mesh.registry.kubernetes import selects
from mesh.registry.types import Workload
from mesh.snapshot.order import age


@dataclass(frozen=True, slots=True)
class GatewayIndex:
    """All Gateways, oldest first. Selectors reach into every namespace, Istio's default."""

    all: tuple[Gateway, ...] = ()

    def of(self, workload: Workload) -> tuple[Gateway, ...]:
        """The Gateways that this workload carries out."""
        return tuple(gateway for gateway in self.all if selects(gateway.spec.selector, workload.labels))


def index(gateways: Iterable[Gateway]) -> GatewayIndex:
    return GatewayIndex(tuple(sorted(gateways, key=age)))
