"""Where a request's time goes in the sidecar's own code: `python -m benchmarks.profile [--functions NAME]`.

One client and one upstream connection a cluster in memory, no sockets and no kernel: what is left is the interpreter's
part. `plain` and `mesh` are the scenarios of `benchmarks.proxy`; between them stands `plain` with one feature of `mesh`
at a time, so the difference to `plain` is what that feature costs. Microseconds are the least of many batches, with the
variants taking turns, so that what else the machine does hardly shows.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import pstats
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from envoy.config.cluster.v3.cluster_pb2 import Cluster as ClusterMessage
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.listener.v3.listener_pb2 import Listener

from benchmarks import scenarios
from benchmarks.scenarios import Json, Layout, manager
from mesh.proxy import decode
from mesh.proxy.compile.clusters import compile_cluster
from mesh.proxy.compile.listeners import compile_listener
from mesh.proxy.downstream.http1 import Downstream
from mesh.proxy.fields import Place
from mesh.proxy.observe.counters import ClusterStats
from mesh.proxy.observe.stats import Stats
from mesh.proxy.resources import Resources
from mesh.proxy.runtime import Runtime, Worker
from mesh.proxy.upstream.cluster import Cluster

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"  # what wrk sends
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 200\r\n\r\n" + b"x" * 200
LAYOUT = Layout("127.0.0", Path())
BATCH = 500


class Wire:
    """A transport in memory, which tells `wrote` of itself when the proxy writes to it."""

    def __init__(self, protocol: Any, wrote: Callable[[Wire], None]) -> None:
        self.protocol = protocol
        self._wrote = wrote

    def write(self, data: bytes) -> None:
        self._wrote(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("10.0.0.1", 1111), "sockname": ("10.0.0.2", 2222)}.get(name, default)

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


class Loop:
    """The running loop, whose connections are wires."""

    def __init__(self, wrote: Callable[[Wire], None]) -> None:
        self._real = asyncio.get_running_loop()
        self._wrote = wrote

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def create_connection(self, factory: Callable[[], Any], ip: str, port: int) -> None:
        protocol = factory()
        protocol.connection_made(Wire(protocol, self._wrote))


class Variant:
    """A listener with its clusters, and one client of it."""

    def __init__(self, entry: Json, clusters: list[Json]) -> None:
        self._asked: list[Wire] = []
        loop: Any = Loop(self._forwarded)
        stats = Stats()
        worker = Worker(loop, click.echo)
        message = Listener()
        decode.parse(json.dumps(entry), message, "listener")
        compiled = compile_listener(message, Node(id="n"), stats, worker.logs, Place("Listener", "entry"))
        served = {each["name"]: self._cluster(each, stats, worker) for each in clusters}
        worker.runtime = Runtime(Resources(), {}, {}, served)
        config: Any = compiled.config.chains[0].config
        self._client: Any = Downstream(worker, config, None, lambda lost: None)
        self._client.connection_made(Wire(self._client, lambda wire: None))

    def _cluster(self, fields: Json, stats: Stats, worker: Worker) -> Cluster:
        message = ClusterMessage()
        decode.parse(json.dumps(fields), message, fields["name"])
        config = compile_cluster(message, Place("Cluster", fields["name"])).config
        group = stats.group(ClusterStats, f"cluster.{fields['name']}")
        cluster = Cluster(config, group, worker.loop, worker.idle_deadlines, worker.spawn)
        cluster.replace_endpoints(config.assignment)
        return cluster

    def _forwarded(self, upstream: Wire) -> None:
        self._asked.append(upstream)

    def request(self) -> bool:
        """One request and its answer; whether it got as far as an upstream, which it does not while one connects."""
        self._client.data_received(REQUEST)
        return self.answer()

    def answer(self) -> bool:
        """Let every upstream answer that was asked, the collector of spans too; whether there was one."""
        asked, self._asked = self._asked, []
        for wire in asked:
            wire.protocol.data_received(RESPONSE)
        return bool(asked)

    async def warm_up(self) -> None:
        """Until every cluster has its connection and every cache its entries."""
        for _ in range(BATCH):
            if not self.request():
                await asyncio.sleep(0.01)
                assert self.answer()

    def batch(self) -> float:
        """Microseconds a request."""
        begun = time.perf_counter()
        for _ in range(BATCH):
            self.request()
        return (time.perf_counter() - begun) / BATCH * 1e6


def variants() -> dict[str, Variant]:
    """By name: `plain`, each of `mesh`'s features alone, `mesh`."""
    made = {"plain": _variant(scenarios.plain)}
    features: dict[str, Callable[[Json, Json], None]] = {
        "fault filter": lambda http, canary: http["http_filters"].insert(0, scenarios.FAULT),
        "weighted split": lambda http, canary: _route(http, {"route": _without_headers(canary["route"])}),
        "header edits": lambda http, canary: _route(http, _edits(canary)),
        "access log": lambda http, canary: http.update(access_log=[scenarios.access_log()]),
        "tracing": lambda http, canary: http.update(
            tracing={"random_sampling": {"value": 1}, "provider": scenarios.zipkin()}
        ),
    }
    for name, change in features.items():
        made[name] = _variant(scenarios.mesh, change)
    made["mesh"] = _variant(scenarios.mesh)
    return made


def _variant(path: Callable[[Layout], list[scenarios.Proxy]], change: Any = None) -> Variant:
    resources = path(LAYOUT)[0].bootstrap["static_resources"]
    (entry,), clusters = resources["listeners"], resources["clusters"]
    if change is not None:
        entry = scenarios.listener(scenarios.near(LAYOUT), scenarios.ENTRY_PORT, [scenarios.to("v1")])
        change(manager(entry), scenarios.canary())
    return Variant(entry, clusters)


def _route(http: Json, fields: Json) -> None:
    http["route_config"]["virtual_hosts"][0]["routes"][0].update(fields)


def _without_headers(route: Json) -> Json:
    clusters = [{"name": each["name"], "weight": each["weight"]} for each in route["weighted_clusters"]["clusters"]]
    return {"weighted_clusters": {"clusters": clusters}}


def _edits(canary: Json) -> Json:
    fields = {name: value for name, value in canary.items() if "headers" in name}
    fields["response_headers_to_add"] = canary["route"]["weighted_clusters"]["clusters"][0]["response_headers_to_add"]
    return fields


async def measure(batches: int) -> None:
    """Print the table of variants."""
    made = variants()
    for variant in made.values():
        await variant.warm_up()
    least = dict.fromkeys(made, float("inf"))
    for _ in range(batches):
        for name, variant in made.items():
            least[name] = min(least[name], variant.batch())
        await asyncio.sleep(0)
        for variant in made.values():
            variant.answer()
    plain = least["plain"]
    for name, us in least.items():
        click.echo(f"{name:<16}{us:8.2f} us {us - plain:+8.2f} us {us / least['mesh'] * 100:6.0f} % of mesh")


async def functions(name: str, batches: int) -> None:
    """Print the functions of a variant that take most time of their own, with cProfile's overhead in them."""
    variant = variants()[name]
    await variant.warm_up()
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(batches):
        variant.batch()
    profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(35)


@click.command()
@click.option("--batches", default=200, show_default=True, help=f"Batches of {BATCH} requests of each variant.")
@click.option("--functions", "name", help="Show the functions of this variant (such as mesh) instead.")
def main(*, batches: int, name: str | None) -> None:
    """Tell what each feature of the mesh scenario costs a request."""
    asyncio.run(measure(batches) if name is None else functions(name, batches))


if __name__ == "__main__":
    main()
