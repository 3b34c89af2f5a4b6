"""The order in which a sidecar comes up, and how long it waits for what does not come (`initial_fetch_timeout`).

Clusters and their endpoints first, then listeners and their routes, as Envoy does; only then is it ready.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.core.v3.config_source_pb2 import ConfigSource

from mesh.proxy import logs
from mesh.proxy.observe.stats import Stats
from mesh.proxy.operations import operation_stats
from mesh.proxy.operations.configuration import Configuration
from mesh.proxy.operations.references import CLUSTER, LISTENER, Kind, Name
from mesh.proxy.operations.resource_files import ResourceFiles
from mesh.proxy.operations.secret_files import path_of
from mesh.proxy.operations.status import ServerState, Status
from mesh.proxy.resources import Refused

if TYPE_CHECKING:
    from mesh.proxy.operations.xds_client.client import AdsClient

_LOG = logs.logger("main")
_DEFAULT_FETCH_TIMEOUT_S = 15.0


class Startup:
    """Takes `status` from PRE_INITIALIZING to LIVE."""

    def __init__(
        self,
        dynamic: Bootstrap.DynamicResources,
        ads: AdsClient | None,
        files: ResourceFiles,
        configuration: Configuration,
        *,
        stats: Stats,
        status: Status,
    ) -> None:
        self._dynamic = dynamic
        self._ads = ads
        self._files = files
        self._configuration = configuration
        self._stats = stats
        self._status = status
        self._changed = asyncio.Event()
        configuration.watch(self._changed.set)

    async def run(self) -> None:
        """Returns when all is there, or waited for long enough."""
        await self._settle()
        await self._fetch(CLUSTER, self._dynamic.cds_config, self._dynamic.HasField("cds_config"))
        await self._warm(CLUSTER)
        self._status.state = ServerState.INITIALIZING
        await self._fetch(LISTENER, self._dynamic.lds_config, self._dynamic.HasField("lds_config"))
        await self._warm(LISTENER)
        self._status.state = ServerState.LIVE
        _LOG.info("all clusters and listeners are ready")

    async def _fetch(self, kind: Kind, source: ConfigSource, is_dynamic: bool) -> None:
        fetcher = self._files if path_of(source) else self._ads
        if fetcher is None or not is_dynamic:
            return
        fetcher.begin(kind)
        try:
            async with asyncio.timeout(fetch_timeout_s(source)):
                await fetcher.answered[kind].wait()
        except TimeoutError:
            operation_stats.of_manager(self._stats, kind).init_fetch_timeout += 1
            _LOG.warning("no %s came within %s s: going on without", kind, fetch_timeout_s(source))

    async def _settle(self) -> None:
        """Until the static clusters that need nothing from elsewhere have their hosts, and checked them."""
        while self._configuration.warming:
            self._changed.clear()
            await self._changed.wait()

    async def _warm(self, kind: Kind) -> None:
        while any(cold == kind for cold, _ in self._configuration.warm_later):
            self._changed.clear()
            await self._changed.wait()


class FetchTimeouts:
    """Ends the wait for a route configuration, load assignment or secret whose time is up."""

    def __init__(self, configuration: Configuration, stats: Stats) -> None:
        self._configuration = configuration
        self._stats = stats
        self._deadlines: dict[Name, float] = {}
        self._changed = asyncio.Event()
        configuration.watch(self._changed.set)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed.clear()
            now = asyncio.get_running_loop().time()
            self._deadlines = self._waiting(now)
            passed = frozenset(name for name, deadline in self._deadlines.items() if deadline <= now)
            if passed:
                await self._expire(passed)
                continue
            try:
                async with asyncio.timeout_at(min(self._deadlines.values(), default=None)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _waiting(self, now: float) -> dict[Name, float]:
        found = {}
        for name, reference in self._configuration.missing().items():
            limit = fetch_timeout_s(reference.source)
            if limit is not None:
                found[name] = self._deadlines.get(name, now + limit)
        return found

    async def _expire(self, names: frozenset[Name]) -> None:
        for kind, name in names:
            operation_stats.of_reference(self._stats, self._configuration.wanted[kind, name]).init_fetch_timeout += 1
            _LOG.warning("%s %s did not come in time: what refers to it serves without", kind, name)
        try:
            await self._configuration.expire(names)
        except Refused as error:
            _LOG.error("cannot serve without what did not come: %s", error)


def fetch_timeout_s(source: Any) -> float | None:
    """`initial_fetch_timeout` in seconds; None (wait for ever) where it is 0."""
    if not source.HasField("initial_fetch_timeout"):
        return _DEFAULT_FETCH_TIMEOUT_S
    return float(source.initial_fetch_timeout.ToTimedelta().total_seconds()) or None
