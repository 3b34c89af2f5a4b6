"""The control plane at the scale it is designed for: 1,000 services, 10,000 endpoints, 1,000 proxies.

`python -m benchmarks.control_plane [--services N] [--endpoints N] [--proxies N]` prints a table for each protocol.
Proxies are streams without a network that take whatever they are sent; the time includes making their requests.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import click
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from google.protobuf.message import Message

from mesh.api.core import Service, ServicePort, ServiceSpec
from mesh.api.destination_rule import DestinationRule, DestinationRuleSpec, Subset
from mesh.api.meta import ObjectMeta, Resource
from mesh.api.pod import Container, ContainerPort, Pod, PodCondition, PodSpec, PodStatus
from mesh.api.virtual_service import (
    Destination,
    HTTPRoute,
    HTTPRouteDestination,
    VirtualService,
    VirtualServiceSpec,
)
from mesh.registry.kubernetes import KubernetesRegistry
from mesh.registry.types import WorkloadKey
from mesh.snapshot.builder import SnapshotBuilder
from mesh.snapshot.options import MeshOptions
from mesh.xds.ads.catalog import Catalog
from mesh.xds.ads.incremental import Incremental
from mesh.xds.ads.state_of_the_world import StateOfTheWorld
from mesh.xds.ads.stream import StreamOf
from mesh.xds.ads.touched import Touched
from mesh.xds.compile.proxy import Proxy, Role
from mesh.xds.types import XdsType

NAMESPACES = 10
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    """One line of the table: `sent` are bytes to all proxies, `compiled` resources made anew for them."""

    step: str
    seconds: float
    compiled: int
    responses: int
    sent: int


class Client:
    """A proxy that takes everything at once."""

    def __init__(self, catalog: Catalog, proxy: Proxy, protocol: StreamOf) -> None:
        self._catalog = catalog
        self._proxy = proxy
        self._protocol = protocol
        self._names: dict[XdsType, tuple[str, ...]] = dict.fromkeys(XdsType, ())
        self.stream = protocol(catalog.config(proxy))

    def connect(self) -> Iterator[int]:
        """Subscribe to everything in a proxy's order; yields the size of each response."""
        return self._subscribe({})

    def reconnect(self) -> Iterator[int]:
        """The same after the control plane was lost, with all that the proxy had."""
        config = self._catalog.config(self._proxy)
        endpoints = (config.endpoints(name) for name in self._names[XdsType.EDS])
        had: dict[XdsType, dict[str, str]] = {
            XdsType.CDS: {own.name: own.version for own in config.clusters},
            XdsType.EDS: {own.name: own.version for own in endpoints if own is not None},
            XdsType.LDS: {own.name: own.version for own in config.listeners},
            XdsType.RDS: {name: own.version for name in ("http_proxy",) if (own := config.routes(name)) is not None},
        }
        self.stream = self._protocol(config)
        return self._subscribe(had)

    def follow(self, touched: Touched) -> Iterator[int]:
        """Take what a new snapshot brings; yields the size of each response."""
        self.stream.offer(self._catalog.config(self._proxy), touched)
        yield from self.drain()

    def drain(self) -> Iterator[int]:
        while (found := self.stream.next_response()) is not None:
            type_, encoded = found
            yield len(encoded)
            self._answer(type_, self.stream.subscriptions[type_].last_nonce)

    def _subscribe(self, had: dict[XdsType, dict[str, str]]) -> Iterator[int]:
        for type_ in (XdsType.CDS, XdsType.EDS, XdsType.LDS, XdsType.RDS):
            if type_ is XdsType.EDS:
                clusters = self._catalog.config(self._proxy).clusters
                self._names[type_] = tuple(name for own in clusters for name in own.wants)
            elif type_ is XdsType.RDS:
                self._names[type_] = ("http_proxy",)
            self._ask(type_, had.get(type_, {}))
            yield from self.drain()

    def _ask(self, type_: XdsType, had: dict[str, str]) -> None:
        names = self._names[type_]
        request: Message = DiscoveryRequest(type_url=type_.url, resource_names=names)
        if self._protocol is Incremental:
            request = DeltaDiscoveryRequest(
                type_url=type_.url, resource_names_subscribe=names, initial_resource_versions=had
            )
        self.stream.request(request, NOW)

    def _answer(self, type_: XdsType, nonce: str) -> None:
        """State of the world names everything again, where incremental names nothing."""
        request: Message = DeltaDiscoveryRequest(type_url=type_.url, response_nonce=nonce)
        if self._protocol is StateOfTheWorld:
            request = DiscoveryRequest(type_url=type_.url, resource_names=self._names[type_], response_nonce=nonce)
        self.stream.request(request, NOW)


class Mesh:
    """A control plane without a network."""

    def __init__(self) -> None:
        self._builder = SnapshotBuilder(MeshOptions())
        self._registry = KubernetesRegistry()
        self._registry.subscribe(self._builder.change_registry)
        self.catalog = Catalog(self._builder.build(0))
        self._version = 0

    def change(self, resources: Iterable[Resource]) -> Touched:
        own = list(resources)
        self._registry.change(own)
        self._builder.change_config(own)
        self._version += 1
        return self.catalog.show(self._builder.build(self._version))


def objects(services: int, endpoints: int) -> Iterator[Resource]:
    """Services with a DestinationRule of two subsets and a VirtualService each, and the pods behind them."""
    for number in range(services):
        name, namespace = f"service-{number}", f"namespace-{number % NAMESPACES}"
        meta = ObjectMeta(name=name, namespace=namespace)
        ports = (ServicePort(port=9080, name="http"),)
        yield Service(api_version="v1", metadata=meta, spec=ServiceSpec(ports=ports, selector={"app": name}))
        yield rule(meta, whole=True)
        yield virtual_service(meta, 90)
    for number in range(endpoints):
        yield pod(number, services, ready=True)


def rule(meta: ObjectMeta, *, whole: bool) -> DestinationRule:
    subsets = tuple(Subset(name=name, labels={"version": name}) for name in ("v1", "v2"))
    spec = DestinationRuleSpec(host=meta.name, subsets=subsets if whole else subsets[:1])
    return DestinationRule(api_version="networking.istio.io/v1", metadata=meta, spec=spec)


def virtual_service(meta: ObjectMeta, weight: int) -> VirtualService:
    split = tuple(
        HTTPRouteDestination(destination=Destination(host=meta.name, subset=subset), weight=share)
        for subset, share in (("v1", weight), ("v2", 100 - weight))
    )
    spec = VirtualServiceSpec(hosts=(meta.name,), http=(HTTPRoute(route=split),))
    return VirtualService(api_version="networking.istio.io/v1", metadata=meta, spec=spec)


def pod(number: int, services: int, *, ready: bool) -> Pod:
    service = number % services
    labels = {"app": f"service-{service}", "version": f"v{number // services % 2 + 1}"}
    labels["security.istio.io/tlsMode"] = "istio"
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    containers = (
        Container(name="app", ports=(ContainerPort(container_port=9080),)),
        Container(name="istio-proxy"),
    )
    return Pod(
        api_version="v1",
        metadata=ObjectMeta(name=f"pod-{number}", namespace=f"namespace-{service % NAMESPACES}", labels=labels),
        spec=PodSpec(containers=containers, service_account_name=f"account-{service}"),
        status=PodStatus(phase="Running", pod_ip=address, conditions=(PodCondition(type="Ready", status=str(ready)),)),
    )


def measured(catalog: Catalog, step: str, work: Callable[[], Iterable[int]]) -> Row:
    made, started = catalog.compiled.made, time.process_time()
    sizes = list(work())
    return Row(step, time.process_time() - started, catalog.compiled.made - made, len(sizes), sum(sizes))


def rows(services: int, endpoints: int, proxies: int, protocol: StreamOf) -> Iterator[Row]:
    mesh = Mesh()
    catalog = mesh.catalog
    everything = list(objects(services, endpoints))
    meta = ObjectMeta(name="service-0", namespace="namespace-0")

    def first_snapshot() -> Iterator[int]:
        mesh.change(everything)
        yield from ()

    yield measured(catalog, "first snapshot from all objects", first_snapshot)
    clients = [
        Client(
            catalog,
            Proxy(WorkloadKey(f"namespace-{number % services % NAMESPACES}", f"pod-{number}"), Role.SIDECAR),
            protocol,
        )
        for number in range(proxies)
    ]

    def followed(change: Resource) -> Callable[[], Iterator[int]]:
        def work() -> Iterator[int]:
            touched = mesh.change([change])
            for client in clients:
                yield from client.follow(touched)

        return work

    yield measured(catalog, "first proxy connects", clients[0].connect)
    yield measured(catalog, "the others connect", lambda: (size for own in clients[1:] for size in own.connect()))
    yield measured(catalog, "a pod becomes unready", followed(pod(0, services, ready=False)))
    yield measured(catalog, "a weight changes", followed(virtual_service(replace(meta), 50)))
    yield measured(catalog, "a subset goes", followed(rule(replace(meta), whole=False)))
    yield measured(catalog, "all come back", lambda: (size for own in clients for size in own.reconnect()))


@click.command()
@click.option("--services", default=1_000, show_default=True)
@click.option("--endpoints", default=10_000, show_default=True)
@click.option("--proxies", default=1_000, show_default=True)
def main(services: int, endpoints: int, proxies: int) -> None:
    """Print how long each step takes, and what it compiles and sends."""
    print(f"{services:,} services, {endpoints:,} endpoints, {proxies:,} proxies in {NAMESPACES} namespaces")
    for protocol in (StateOfTheWorld, Incremental):
        print(f"\n{protocol.__name__:34}{'CPU s':>9}{'compiled':>10}{'responses':>11}{'MiB sent':>10}")
        for row in rows(services, endpoints, proxies, protocol):
            sent = row.sent / 2**20
            print(f"{row.step:34}{row.seconds:9.3f}{row.compiled:10,}{row.responses:11,}{sent:10,.2f}", flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nmost memory resident: {memory:,.0f} MiB")


if __name__ == "__main__":
    main()
