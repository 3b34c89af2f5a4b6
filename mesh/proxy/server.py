"""The data path of one process: takes `Resources`, compiles what changed, and serves."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import IO

from envoy.config.core.v3.base_pb2 import INBOUND, Node
from envoy.config.listener.v3.listener_pb2 import Listener

from mesh.proxy.cluster_warming import ClusterWarming
from mesh.proxy.compile.clusters import CompiledCluster, compile_cluster
from mesh.proxy.compile.endpoints import compile_endpoints
from mesh.proxy.compile.listeners import CompiledListener, compile_listener
from mesh.proxy.compile.routes import compile_routes
from mesh.proxy.compile.tls import check_secret
from mesh.proxy.compile.values import value_or
from mesh.proxy.downstream.connection_info import Address
from mesh.proxy.downstream.connection_limits import ConnectionLimits
from mesh.proxy.downstream.filter_chain import ListenerConfig
from mesh.proxy.downstream.listener import REPLACED_DRAIN_S, ActiveListener
from mesh.proxy.downstream.logged import LoggedListener
from mesh.proxy.fields import Place
from mesh.proxy.observe.stats import Stats
from mesh.proxy.observe.upstream_counters import ClusterStats
from mesh.proxy.plan import Plan, Turn, changed, check_clusters
from mesh.proxy.resources import Refused, Resources, differ_in_chains_only
from mesh.proxy.runtime import Runtime, Worker
from mesh.proxy.upstream.cluster import Cluster
from mesh.proxy.upstream.dialling import SocketOption
from mesh.proxy.upstream.endpoint import Assignment

_NO_LIMITS = ConnectionLimits()


class Server:
    """Serves one `Resources` at a time. Updates cost what changed: unchanged messages keep what was made of them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        node: Node,
        stats: Stats,
        log: IO[str],
        *,
        reuse_port: bool = False,
        limits: ConnectionLimits = _NO_LIMITS,
        upstream_options: tuple[SocketOption, ...] = (),
    ) -> None:
        """`log` gets what cannot be told otherwise (an access log that cannot be written). `reuse_port` lets several
        workers share the listeners' ports. `upstream_options` are set on every socket of a cluster.
        """
        self.worker = Worker(loop, lambda line: print(line, file=log, flush=True))
        self.stats = stats
        self._node = node
        self._reuse_port = reuse_port
        self._limits = limits
        self._upstream_options = upstream_options
        self._listeners: dict[str, CompiledListener] = {}
        self._clusters: dict[str, CompiledCluster] = {}
        self.warming = ClusterWarming(self.worker.spawn, self._serve)
        self._has_warmed = False
        self._active: dict[str, ActiveListener] = {}
        self._by_address: dict[Address, ActiveListener] = {}
        self._draining: list[ActiveListener] = []
        self._is_settled = False

    @property
    def runtime(self) -> Runtime:
        """The configuration in force."""
        return self.worker.runtime

    @property
    def listeners(self) -> Mapping[str, ActiveListener]:
        """The listeners that accept, by name."""
        return self._active

    async def check(self, resources: Resources) -> None:
        """Raise Refused if `resources` could not be served; change nothing. Ports are not tried."""
        await self._compile(Plan(resources))

    async def apply(self, resources: Resources) -> None:
        """Serve `resources` from now on. Raises Refused, and then nothing has changed.

        Requests are served meanwhile: the update is compiled in small pieces, and put in force in one. Only one at a
        time: the caller waits for the end of the one before.
        """
        plan = Plan(resources)
        try:
            await self._compile(plan)
            await self._make_clusters(plan)
            self._open(plan)
        except BaseException:
            for cluster in plan.made.values():
                cluster.close()
            raise
        self._commit(plan)
        if not self._is_settled:
            # Modules and the first configuration live for ever: a collection that walks them is a pause for nothing.
            self._is_settled = True
            gc.collect()
            gc.freeze()

    # Compiling

    async def _compile(self, plan: Plan) -> None:
        before, resources, turn = self.runtime.resources, plan.resources, Turn()
        for name, secret in changed(before.secrets, resources.secrets):
            check_secret(secret, Place("Secret", name))
            await turn.over()
        for name, cluster in changed(before.clusters, resources.clusters):
            plan.clusters[name] = compile_cluster(cluster, Place("Cluster", name), self._upstream_options)
            await turn.over()
        for name, assignment in changed(before.endpoints, resources.endpoints):
            plan.endpoints[name] = compile_endpoints(assignment, Place("ClusterLoadAssignment", name))
            await turn.over()
        for name, routes in changed(before.routes, resources.routes):
            plan.routes[name] = compile_routes(routes, Place("RouteConfiguration", name))
            await turn.over()
        for name, listener in changed(before.listeners, resources.listeners):
            self._check_sharing(name, listener)
            plan.listeners[name] = compile_listener(
                listener, self._node, self.stats, self.worker.logs, Place("Listener", name)
            )
            await turn.over()
        self._make_contexts(plan, before)
        check_clusters(plan)

    def _check_sharing(self, name: str, listener: Listener) -> None:
        """Workers that share ports do so by SO_REUSEPORT: they have no socket in common."""
        if self._reuse_port and not value_or(listener, "enable_reuse_port", True):
            reason = "false is supported with --concurrency 1 alone"
            raise Refused("Listener", name, "enable_reuse_port", reason)

    async def _make_clusters(self, plan: Plan) -> None:
        turn = Turn()
        for name, compiled in plan.clusters.items():
            plan.made[name] = self._new_cluster(compiled, plan.resources)
            await turn.over()

    def _make_contexts(self, plan: Plan, before: Resources) -> None:
        """TLS contexts of what is new, and of what refers to a secret that changed."""
        secrets = plan.resources.secrets
        renewed = {name for name, _ in changed(before.secrets, secrets)} | (before.secrets.keys() - secrets.keys())
        new: list[CompiledListener | CompiledCluster] = [*plan.listeners.values(), *plan.clusters.values()]
        old: list[CompiledListener | CompiledCluster] = [
            compiled
            for compiled_all, replaced, kept in (
                (self._listeners, plan.listeners, plan.resources.listeners),
                (self._clusters, plan.clusters, plan.resources.clusters),
            )
            for name, compiled in compiled_all.items()
            if name not in replaced and name in kept
        ]
        for compiled in new:
            plan.contexts += [(context, context.build(secrets)) for context in compiled.contexts]
        for compiled in old:
            plan.contexts += [
                (context, context.build(secrets))
                for context in compiled.contexts
                if not renewed.isdisjoint(context.secret_names)
            ]
        plan.contexts += [
            (context, context.build(secrets))
            for context in self.warming.contexts_of_serving(plan.resources.clusters)
            # Its secret may be gone with the reference to it: then it goes on with what it has.
            if not renewed.isdisjoint(context.secret_names) and context.secret_names <= secrets.keys()
        ]

    # Ports

    def _open(self, plan: Plan) -> None:
        """Bind the ports of new listeners. Raises Refused, and then none of them is open."""
        staying = {
            name for name in plan.resources.listeners if name not in plan.listeners or self._keeps_ports(name, plan)
        }
        leaving = [active for name, active in self._active.items() if name not in staying]
        for name, compiled in plan.listeners.items():
            if name in staying:
                continue
            kind = LoggedListener if compiled.config.log_steps else ActiveListener
            opened = kind(
                self.worker,
                compiled.config,
                self._of_destination,
                self._is_full if self._limits else None,
                reuse_port=self._reuse_port,
            )
            try:
                opened.bind(leaving)
            except OSError as error:
                for each in plan.opened.values():
                    each.unbind()
                addresses = ", ".join(f"{ip}:{port}" for ip, port in compiled.config.addresses)
                reason = f"cannot bind {addresses}: {os.strerror(error.errno or 0)}"
                raise Refused("Listener", name, "address", reason) from error
            plan.opened[name] = opened

    def _keeps_ports(self, name: str, plan: Plan) -> bool:
        active = self._active.get(name)
        if active is None:
            return False
        old, new = active.config, plan.listeners[name].config
        if bool(old.log_steps) != bool(new.log_steps):
            return False
        return (old.addresses, old.binds, old.socket_options) == (new.addresses, new.binds, new.socket_options)

    def _is_full(self, config: ListenerConfig) -> bool:
        return self._limits.refuses(config, (active.config for active in self._active.values()))

    def _of_destination(self, address: Address) -> ActiveListener | None:
        """The listener of this address, or else that of its port on every address."""
        ip, port = address
        found = self._by_address.get(address)
        return found or self._by_address.get(("::" if ":" in ip else "0.0.0.0", port))  # noqa: S104 - looked up

    # Putting in force

    def _commit(self, plan: Plan) -> None:
        for context_plan, material in plan.contexts:
            context_plan.owner.use(material)
        resources = plan.resources
        clusters = self._commit_clusters(plan)
        routes = {name: plan.routes.get(name) or self.runtime.routes[name] for name in resources.routes}
        self._listeners = {name: plan.listeners.get(name) or self._listeners[name] for name in resources.listeners}
        self._commit_listeners(plan)
        self.worker.runtime = Runtime(
            resources, {name: compiled.config for name, compiled in self._listeners.items()}, routes, clusters
        )
        self.worker.logs.keep_services({each for found in self._listeners.values() for each in found.log_services})

    def _commit_clusters(self, plan: Plan) -> dict[str, Cluster]:
        """The clusters that serve from now on: as with Envoy, what is replaced does until its successor is warm."""
        before = self.runtime.clusters
        clusters: dict[str, Cluster] = {}
        for name in plan.resources.clusters:
            made, serving = plan.made.get(name), before.get(name)
            if made is None:
                for cluster in self._of_name(name):
                    self._update_endpoints(cluster, plan)
            elif made.is_warm:
                self.warming.forget(name)
                serving = made
                made.enter_service()
            else:
                self.warming.begin(name, made, None if serving is None else self._clusters[name])
            if made is not None:
                self._clusters[name] = plan.clusters[name]
            if serving is not None:
                clusters[name] = serving
        for name in [name for name in self._clusters if name not in plan.resources.clusters]:
            self.warming.forget(name)
            del self._clusters[name]
            self.stats.drop(f"cluster.{name}")
        for name, gone in before.items():
            if clusters.get(name) is not gone:
                gone.close()
        return clusters

    def _of_name(self, name: str) -> Iterator[Cluster]:
        """The cluster that serves, and the one that is to replace it."""
        for cluster in (self.runtime.clusters.get(name), self.warming.get(name)):
            if cluster is not None:
                yield cluster

    def _serve(self, name: str, cluster: Cluster) -> None:
        """The cluster is warm."""
        before = self.runtime.clusters
        self.worker.runtime = replace(self.runtime, clusters={**before, name: cluster})
        cluster.enter_service()
        if name in before:
            before[name].close()

    def _new_cluster(self, compiled: CompiledCluster, resources: Resources) -> Cluster:
        config = compiled.config
        stats = self.stats.group(ClusterStats, f"cluster.{config.name}", (("envoy.cluster_name", config.name),))
        worker = self.worker
        cluster = Cluster(config, stats, worker.loop, worker.idle_deadlines, worker.spawn)
        if config.eds_name:
            assignment = resources.endpoints.get(config.eds_name)
            if assignment is not None:
                cluster.replace_endpoints(
                    compile_endpoints(assignment, Place("ClusterLoadAssignment", config.eds_name))
                )
        else:
            cluster.discover()
        return cluster

    def _update_endpoints(self, cluster: Cluster, plan: Plan) -> None:
        name = cluster.config.eds_name
        if name and name in plan.endpoints:
            cluster.replace_endpoints(plan.endpoints[name])
        elif name and name not in plan.resources.endpoints and cluster.hosts and self._is_current(cluster):
            cluster.replace_endpoints(Assignment())

    def _is_current(self, cluster: Cluster) -> bool:
        """Whether it is as configured. What serves in place of one that warms keeps the endpoints that it has."""
        return self.warming.get(cluster.name) in (None, cluster)

    def _commit_listeners(self, plan: Plan) -> None:
        for name, active in list(self._active.items()):
            if name in plan.opened or name not in self._listeners:
                del self._active[name]
                active.drain(REPLACED_DRAIN_S)
                self._draining = [each for each in (*self._draining, active) if each.connections]
            elif name in plan.listeners:
                before, after = self.runtime.resources.listeners[name], plan.resources.listeners[name]
                active.replace(plan.listeners[name].config, keeps_connections=differ_in_chains_only(before, after))
        for name, opened in plan.opened.items():
            self._active[name] = opened
            self.worker.spawn(self._accept(opened))
        self._by_address = {address: active for active in self._active.values() for address in active.config.addresses}

    async def _accept(self, opened: ActiveListener) -> None:
        if not self._has_warmed:  # as with Envoy, only the first clusters are waited for
            await self.settled()
            self._has_warmed = True
        await opened.accept()

    async def settled(self) -> None:
        """Until every cluster has its hosts, and these have been checked once."""
        await self.warming.wait_over()

    # The end

    async def begin_drain(self, *, inbound_only: bool = False, keeps_accepting: bool = False) -> None:
        """Stop accepting, unless that is to go on; each connection ends after its present request, an idle one soon."""
        directions = {name: listener.traffic_direction for name, listener in self.runtime.resources.listeners.items()}
        chosen = [
            active for name, active in self._active.items() if not inbound_only or directions.get(name) == INBOUND
        ]
        for active in (*chosen, *self._draining):
            if keeps_accepting:
                active.ask_to_leave(0)
            else:
                await active.accept_waiting()
                active.drain(0)

    def fail(self, is_failing: bool) -> None:
        """Fail health checks: meanwhile responses of listeners with drain_type DEFAULT end their connections."""
        self.worker.is_failing = is_failing
        for active in (*self._active.values(), *self._draining):
            active.judge_drain()

    async def close(self, grace_s: float) -> None:
        """Wait for connections to end, `grace_s` seconds at most, then end them; write out the logs."""
        everyone = [*self._active.values(), *self._draining]
        for active in everyone:
            active.stop()
        try:
            async with asyncio.timeout(grace_s):
                for active in everyone:
                    await active.wait_empty()
        except TimeoutError:
            pass  # who has not ended by now is ended
        for active in everyone:
            for connection in list(active.connections):
                connection.abort()
        for cluster in self.runtime.clusters.values():
            cluster.close()
        self.warming.close()
        await self.worker.close()
