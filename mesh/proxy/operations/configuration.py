"""The configuration in force: what the control plane and the files have told us, and what of it serves already.

MUST NOT know where a resource comes from, nor do I/O: sources call `replace` and `merge`, the data plane judges.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from mesh.proxy.operations import warming
from mesh.proxy.operations.plane import DataPlane
from mesh.proxy.operations.references import CLUSTER, ENDPOINT, ROUTE, SECRET, Kind, Name, Reference
from mesh.proxy.resources import Refused, Resources

_NO_VERSIONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an accepted resource stands: the version it came with and when (seconds since 1970)."""

    version: str
    updated: float


@dataclass(frozen=True, slots=True)
class Rejection:
    """A resource for which the last update of its type was refused."""

    version: str
    details: str
    at: float


class Configuration:
    """Accepted and serving resources. `unserved` names static clusters that the data path is not to see."""

    def __init__(self, static: Resources, plane: DataPlane, unserved: frozenset[str] = frozenset()) -> None:
        self.static = static
        self.accepted = Resources()
        self.active = Resources()
        self.cold: frozenset[Name] = frozenset()
        self.warming: frozenset[str] = frozenset()
        self.origins: dict[Name, Origin] = {}
        self.versions: dict[Kind, str] = {}
        self.rejections: dict[Name, Rejection] = {}
        self.wanted: dict[Name, Reference] = {}
        self._plane = plane
        self._unserved = unserved
        self._expired: frozenset[Name] = frozenset()
        self._references = warming.References()
        self._serving = warming.References()
        self._serialised = asyncio.Lock()
        self._began_warming = asyncio.Event()
        self._watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` after each update that was accepted."""
        self._watchers.append(changed)

    async def check(self) -> None:
        """Raise Refused if the static resources could not be served; change nothing."""
        await self._plane.check(self._served(self.static))

    @property
    def warm_later(self) -> frozenset[Name]:
        """Listeners and clusters that do not serve yet: for want of a reference, of hosts or of a first check."""
        return self.cold | {(CLUSTER, name) for name in self.warming}

    async def watch_warming(self) -> None:
        """Follow the clusters that the data plane warms. Until cancelled."""
        while True:
            while not self.warming:
                self._began_warming.clear()
                await self._began_warming.wait()
            self.warming = await self._plane.wait_warming(self.warming)
            self._tell()

    async def start(self) -> None:
        """Serve the static resources. Raises Refused."""
        async with self._serialised:
            await self._commit(self.static)
            now = Origin("", time.time())
            self.origins |= {(kind, name): now for kind, messages in _kinds(self.static) for name in messages}

    async def replace(self, kind: Kind, messages: Mapping[str, Any], version: str) -> None:
        """All dynamic resources of `kind` are now `messages`. Raises Refused, and then nothing has changed."""
        async with self._serialised:
            mine: Mapping[str, Any] = getattr(self.static, kind)  # a static resource is not to be replaced
            await self._update(kind, {**messages, **mine}, version)

    async def change(
        self,
        kind: Kind,
        messages: Mapping[str, Any],
        removed: Collection[str],
        version: str,
        versions: Mapping[str, str],
    ) -> None:
        """These dynamic resources of `kind` are new or changed, those are gone. Raises Refused, as `replace` does.

        `versions` are those of single resources; what has none there has `version`.
        """
        async with self._serialised:
            before = getattr(self.accepted, kind)
            kept = {name: message for name, message in before.items() if name not in removed}
            await self._update(kind, {**kept, **messages, **getattr(self.static, kind)}, version, versions)

    async def merge(
        self, kind: Kind, messages: Mapping[str, Any], version: str, versions: Mapping[str, str] = _NO_VERSIONS
    ) -> None:
        """These resources of `kind` are new or changed, others stay. Raises Refused, and then nothing has changed."""
        async with self._serialised:
            await self._update(kind, {**getattr(self.accepted, kind), **messages}, version, versions)

    async def expire(self, names: frozenset[Name]) -> None:
        """Wait no longer for `names`: what refers to them serves without. Raises Refused."""
        async with self._serialised:
            self._expired |= names
            await self._commit(self.accepted)

    def missing(self) -> dict[Name, Reference]:
        """What is waited for: referred to, not here, and its time is not up."""
        return {
            name: reference
            for name, reference in self.wanted.items()
            if name[1] not in getattr(self.accepted, name[0]) and name not in self._expired
        }

    async def _update(
        self, kind: Kind, messages: Mapping[str, Any], version: str, versions: Mapping[str, str] = _NO_VERSIONS
    ) -> None:
        before: Mapping[str, Any] = getattr(self.accepted, kind)
        # An equal message keeps its identity, so that what was compiled from it is kept.
        same = {name: _kept(before.get(name), message) for name, message in messages.items()}
        try:
            await self._commit(replace(self.accepted, **{kind: same}))
        except Refused as error:
            refused = versions.get(error.resource_name, version)
            self.rejections[kind, error.resource_name] = Rejection(refused, str(error), time.time())
            raise
        self.rejections = {name: rejection for name, rejection in self.rejections.items() if name[0] != kind}
        self.versions[kind] = version
        now = time.time()
        changed = {
            (kind, name): Origin(versions.get(name, version), now)
            for name, message in same.items()
            if before.get(name) is not message
        }
        kept = {key: origin for key, origin in self.origins.items() if key[1] in getattr(self.accepted, key[0])}
        self.origins = {**kept, **changed}

    async def _commit(self, candidate: Resources) -> None:
        needs = self._references.of(candidate)
        warmth = warming.warm(candidate, self.active, needs, self._expired)
        # What still serves in place of something cold needs its references as long as it does.
        serving = self._serving.of(warmth.active).values() if warmth.cold else ()
        wanted = {(need.kind, need.name): need for found in (*needs.values(), *serving) for need in found}
        candidate, active = self._pruned(candidate, wanted), self._pruned(warmth.active, wanted)
        if warmth.cold:
            await self._plane.check(self._served(candidate))
        await self._plane.apply(self._served(active))
        self.accepted, self.active, self.cold, self.wanted = candidate, active, warmth.cold, wanted
        self._expired &= frozenset(wanted)
        self.warming = await self._plane.wait_warming(None)
        self._began_warming.set()
        self._tell()

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()

    def _served(self, resources: Resources) -> Resources:
        served = {name: cluster for name, cluster in resources.clusters.items() if name not in self._unserved}
        return replace(resources, clusters=served)

    def _pruned(self, resources: Resources, wanted: Mapping[Name, Reference]) -> Resources:
        """Without the routes, endpoints and secrets that nothing refers to any more."""
        kept: dict[str, Mapping[str, Any]] = {}
        for kind in (ROUTE, ENDPOINT, SECRET):
            messages: Mapping[str, Any] = getattr(resources, kind)
            mine = getattr(self.static, kind)
            kept[kind] = {name: message for name, message in messages.items() if (kind, name) in wanted or name in mine}
        return replace(resources, **kept)


def _kept(before: Any, message: Any) -> Any:
    return before if before is message or before == message else message


def _kinds(resources: Resources) -> list[tuple[Kind, Mapping[str, Any]]]:
    return [(Kind(field.name), getattr(resources, field.name)) for field in fields(resources)]
