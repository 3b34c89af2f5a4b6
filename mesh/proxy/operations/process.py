"""The composition root: puts data path, control-plane client, secrets and admin pages together and sees them end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

import uvloop
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap

from mesh.proxy import logs
from mesh.proxy.compile.limits import compile_limits
from mesh.proxy.compile.stats_config import compile_view
from mesh.proxy.compile.stats_sinks import compile_sinks
from mesh.proxy.compile.values import seconds_or
from mesh.proxy.downstream.connection_limits import ConnectionLimits
from mesh.proxy.fields import Place
from mesh.proxy.observe.stats import Stats
from mesh.proxy.observe.stats_view import StatsView
from mesh.proxy.observe.statsd import StatsdSink, flush_for_ever
from mesh.proxy.operations import operation_stats
from mesh.proxy.operations.admin.page import Sidecar
from mesh.proxy.operations.admin.pages import PAGES
from mesh.proxy.operations.admin.server import AdminServer
from mesh.proxy.operations.bootstrap import ads_cluster, static_resources
from mesh.proxy.operations.configuration import Configuration
from mesh.proxy.operations.local_plane import LocalPlane
from mesh.proxy.operations.metrics import Metrics
from mesh.proxy.operations.options import Options
from mesh.proxy.operations.plane import DataPlane
from mesh.proxy.operations.resource_files import ResourceFiles
from mesh.proxy.operations.secret_files import SecretFiles
from mesh.proxy.operations.startup import FetchTimeouts, Startup
from mesh.proxy.operations.status import ServerState, Status
from mesh.proxy.resources import Refused

if TYPE_CHECKING:
    from mesh.proxy.operations.xds_client.client import AdsClient

_LOG = logs.logger("main")
_FLUSH_INTERVAL_S = 5.0


class StartError(Exception):
    """The sidecar cannot start from this bootstrap. `str()` is one line."""


def run(bootstrap: Bootstrap, options: Options) -> int:
    """Serve until a signal ends it, or only check the bootstrap. Returns the exit code. Raises StartError."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_validate(bootstrap, options) if options.validate else _serve(bootstrap, options))
        except Refused as error:
            raise StartError(str(error)) from error


async def _validate(bootstrap: Bootstrap, options: Options) -> int:
    if bootstrap.dynamic_resources.HasField("ads_config"):
        from mesh.proxy.operations.xds_client.channel import Dialer  # noqa: PLC0415 - see `_Process._ads`

        Dialer.of(ads_cluster(bootstrap))
    shares, limits = options.concurrency > 1, _limits(bootstrap, options)
    plane = LocalPlane.of(
        bootstrap.node, sys.stderr, reuse_port=shares, limits=limits, manager=bootstrap.cluster_manager
    )
    _view(bootstrap)
    compile_sinks(bootstrap)
    await Configuration(static_resources(bootstrap), plane, _unserved(bootstrap)).check()
    await plane.close(0)
    print(f"configuration '{options.config_path or '--config-yaml'}' OK")  # noqa: T201 - what was asked for
    return 0


async def _serve(bootstrap: Bootstrap, options: Options) -> int:
    stop = _stop_on_signals()
    plane = await _plane(bootstrap, options)
    try:
        await _Process(bootstrap, options, plane, stop).run()
    finally:
        await plane.close(0)
    return 0


async def _plane(bootstrap: Bootstrap, options: Options) -> DataPlane:
    limits = _limits(bootstrap, options)
    if options.concurrency == 1:
        return LocalPlane.of(bootstrap.node, sys.stderr, limits=limits, manager=bootstrap.cluster_manager)
    from mesh.proxy.operations.workers import Workers  # noqa: PLC0415 - most sidecars have no use for it

    return await Workers.start(bootstrap.node, bootstrap.cluster_manager, options.concurrency, options.log_level)


def _limits(bootstrap: Bootstrap, options: Options) -> ConnectionLimits:
    """Of the whole proxy, which only a single worker can keep to."""
    limits = compile_limits(bootstrap, Place("Bootstrap", bootstrap.node.id))
    if limits and options.concurrency > 1:
        raise StartError("limits of connections are supported with --concurrency 1 alone")
    return limits


class _Process:
    """One sidecar: its parts, and the order in which they start and end."""

    def __init__(self, bootstrap: Bootstrap, options: Options, plane: DataPlane, stop: asyncio.Event) -> None:
        self._plane, self._stop, self._options = plane, stop, options
        self._status = status = Status()
        self._stats = Stats()
        self._configuration = Configuration(static_resources(bootstrap), plane, _unserved(bootstrap))
        operation_stats.watch_managers(self._stats, self._configuration)
        secrets = SecretFiles(self._configuration, self._stats)
        ads = self._ads(bootstrap, secrets) if bootstrap.dynamic_resources.HasField("ads_config") else None
        files = ResourceFiles(bootstrap.dynamic_resources, self._configuration, self._stats)
        startup = Startup(
            bootstrap.dynamic_resources, ads, files, self._configuration, stats=self._stats, status=status
        )
        timeouts = FetchTimeouts(self._configuration, self._stats)
        self._work = [each.run for each in (plane, secrets, files, timeouts, startup, ads) if each is not None]
        self._work += [self._reopen_logs_on_signal, self._configuration.watch_warming]
        metrics = Metrics(
            plane,
            self._stats,
            status,
            options,
            self._configuration,
            _view(bootstrap),
        )
        if bootstrap.stats_sinks:
            self._work.append(_flushing(bootstrap, metrics))
        self._admin_address = bootstrap.admin.address.socket_address
        self._admin = AdminServer(
            Sidecar(bootstrap, self._configuration, options, plane, self._stats, status, stop, metrics), PAGES
        )

    async def run(self) -> None:
        """Until the stop event; then drain."""
        await self._open_admin()
        try:
            await self._configuration.start()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work()) for work in self._work]
                await self._stop.wait()
                for task in tasks:
                    task.cancel()
            await self._drain()
        finally:
            await self._admin.close()

    async def _reopen_logs_on_signal(self) -> None:
        """SIGUSR1 asks for it, as log rotation sends it."""
        asked = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, asked.set)
        while True:
            await asked.wait()
            asked.clear()
            await self._plane.reopen_logs()

    async def _open_admin(self) -> None:
        if not self._admin_address.address:
            return
        address, port = self._admin_address.address, self._admin_address.port_value
        try:
            address, port = await self._admin.start(address, port)
        except OSError as error:
            raise StartError(f"admin.address {address}:{port}: {error.strerror}") from error
        _LOG.info("admin address: %s:%d", address, port)

    async def _drain(self) -> None:
        _LOG.info("draining for at most %g s", self._options.drain_time_s)
        self._status.state = ServerState.DRAINING
        await self._plane.drain()
        await self._plane.close(self._options.drain_time_s)
        _LOG.info("exiting")

    def _ads(self, bootstrap: Bootstrap, secrets: SecretFiles) -> AdsClient:
        # What goes wrong with a stream is in its status; gRPC's own lines on stderr would only say it twice.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        # gRPC is a sixth of the sidecar's memory: a static bootstrap is not to pay for it.
        from mesh.proxy.operations.xds_client.channel import Dialer  # noqa: PLC0415
        from mesh.proxy.operations.xds_client.client import AdsClient  # noqa: PLC0415

        node = bootstrap.node
        node.user_agent_name = node.user_agent_name or "meshdrill"
        return AdsClient(
            ads=bootstrap.dynamic_resources.ads_config,
            node=node,
            dialer=Dialer.of(ads_cluster(bootstrap)),
            configuration=self._configuration,
            stats=self._stats,
            refresh_secrets=secrets.refresh,
        )


def _view(bootstrap: Bootstrap) -> StatsView:
    return compile_view(bootstrap.stats_config, Place("Bootstrap", bootstrap.node.id).at("stats_config"))


def _flushing(bootstrap: Bootstrap, metrics: Metrics) -> Callable[[], Coroutine[None, None, None]]:
    """What sends stats to the sinks of this bootstrap. Raises Refused."""
    sinks = [StatsdSink(config) for config in compile_sinks(bootstrap)]
    interval = seconds_or(bootstrap, "stats_flush_interval", _FLUSH_INTERVAL_S)
    return lambda: flush_for_ever(metrics.samples, sinks, interval)


def _stop_on_signals() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process where it stands."""
    stop = asyncio.Event()

    def signalled(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled, number)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return stop


def _unserved(bootstrap: Bootstrap) -> frozenset[str]:
    """gRPC serves the control plane's cluster; the data path is not to see it."""
    has_ads = bootstrap.dynamic_resources.HasField("ads_config")
    return frozenset({ads_cluster(bootstrap).name} if has_ads else ())
