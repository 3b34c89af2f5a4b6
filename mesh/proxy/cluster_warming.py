"""Clusters that do not serve yet: they wait for their first hosts or health checks, and what they replace serves until
then, as with Envoy. A name that is new is unknown to routes until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from mesh.proxy.compile.clusters import CompiledCluster
from mesh.proxy.compile.tls import ContextPlan
from mesh.proxy.upstream.cluster import Cluster, Spawn


@dataclass(frozen=True, slots=True)
class _Entry:
    """`before` is what serves in the cluster's place, if its name is not new."""

    cluster: Cluster
    before: CompiledCluster | None


class ClusterWarming:
    """`serve` is called with the name and the cluster once that is warm, unless another has taken its place by then."""

    def __init__(self, spawn: Spawn, serve: Callable[[str, Cluster], None]) -> None:
        self._spawn = spawn
        self._serve = serve
        self._entries: dict[str, _Entry] = {}
        self._changed = asyncio.Event()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._entries)

    def get(self, name: str) -> Cluster | None:
        """The cluster that is to serve under this name."""
        entry = self._entries.get(name)
        return None if entry is None else entry.cluster

    def begin(self, name: str, cluster: Cluster, serving: CompiledCluster | None) -> None:
        """Wait for `cluster`, in place of one that may be waited for already. `serving` was configured before it."""
        earlier = self._entries.get(name)
        before = serving if earlier is None else earlier.before
        self.forget(name)
        entry = self._entries[name] = _Entry(cluster, before)
        self._changed.set()
        self._spawn(self._warm(name, entry))

    def forget(self, name: str) -> None:
        """Wait for it no longer: it is gone, or another serves."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            entry.cluster.close()
            self._changed.set()

    def contexts_of_serving(self, names: Collection[str]) -> Iterator[ContextPlan]:
        """TLS contexts of what serves in place of those that warm, if their name is one of `names`."""
        for name, entry in self._entries.items():
            if entry.before is not None and name in names:
                yield from entry.before.contexts

    async def wait(self, known: frozenset[str]) -> frozenset[str]:
        """The clusters that warm, as soon as they are others than `known`."""
        while self.names == known:
            self._changed.clear()
            await self._changed.wait()
        return self.names

    async def wait_over(self) -> None:
        """Until none warms."""
        while self._entries:
            await self.wait(self.names)

    def close(self) -> None:
        for name in self.names:
            self.forget(name)

    async def _warm(self, name: str, entry: _Entry) -> None:
        await entry.cluster.wait_warm()
        if self._entries.get(name) is entry:
            del self._entries[name]
            self._serve(name, entry.cluster)
            self._changed.set()
