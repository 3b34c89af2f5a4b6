"""An update on its way: what it is compiled to, in which pieces, and what is new in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh.proxy.compile.clusters import CompiledCluster
from mesh.proxy.compile.listeners import CompiledListener
from mesh.proxy.compile.tls import ContextPlan
from mesh.proxy.downstream.listener import ActiveListener
from mesh.proxy.fields import Place
from mesh.proxy.http.config import HttpConfig
from mesh.proxy.http.route import RouteTable
from mesh.proxy.resources import Resources
from mesh.proxy.tls.context import Material
from mesh.proxy.upstream.cluster import Cluster
from mesh.proxy.upstream.endpoint import Assignment

_TURN_S = 0.003  # how long requests may wait for a piece of an update


@dataclass(slots=True)
class Plan:
    """An update that compiled: nothing of it is in force yet, and putting it in force cannot fail."""

    resources: Resources
    listeners: dict[str, CompiledListener] = field(default_factory=dict)
    routes: dict[str, RouteTable] = field(default_factory=dict)
    clusters: dict[str, CompiledCluster] = field(default_factory=dict)
    endpoints: dict[str, Assignment] = field(default_factory=dict)
    contexts: list[tuple[ContextPlan, Material | None]] = field(default_factory=list)
    made: dict[str, Cluster] = field(default_factory=dict)
    opened: dict[str, ActiveListener] = field(default_factory=dict)


class Turn:
    """Lets the event loop serve requests once an update has kept it for long enough."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends = time.monotonic() + _TURN_S

    async def over(self) -> None:
        if time.monotonic() >= self._ends:
            await asyncio.sleep(0)
            self._ends = time.monotonic() + _TURN_S


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What is new or not the same message any more. Identity is asked first: it is the common case."""
    return [
        (name, message)
        for name, message in after.items()
        if (old := before.get(name)) is not message and (old is None or old != message)
    ]


def check_clusters(plan: Plan) -> None:
    """Raise Refused if a new route table needs a cluster that is not there."""
    there = plan.resources.clusters.keys() | plan.resources.expected.keys()
    tables = [(Place("RouteConfiguration", name), table) for name, table in plan.routes.items()]
    for name, listener in plan.listeners.items():
        configs = (chain.config for chain in listener.config.chains)
        inline = (config.table for config in configs if isinstance(config, HttpConfig) and config.table is not None)
        tables += [(Place("Listener", name), table) for table in inline]
    for place, table in tables:
        for missing in sorted(table.needed - there):
            raise place.refuse(f"route: unknown cluster {missing!r}")
