"""Warming and the all-or-nothing of updates; the data plane here only writes down what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from mesh.proxy.observe.stats import Sample
from mesh.proxy.operations.configuration import Configuration
from mesh.proxy.operations.plane import ClusterStatus, ListenerStatus
from mesh.proxy.operations.references import CLUSTER, ENDPOINT, LISTENER, ROUTE
from mesh.proxy.resources import Refused, Resources


class Recorder:
    """A data plane that refuses clusters called `bad` and remembers the rest."""

    def __init__(self) -> None:
        self.checked: list[Resources] = []
        self.applied: list[Resources] = []

    async def run(self) -> None: ...
    async def check(self, resources: Resources) -> None:
        if "bad" in resources.clusters:
            raise Refused("Cluster", "bad", "type", "is bad")
        self.checked.append(resources)

    async def apply(self, resources: Resources) -> None:
        if "bad" in resources.clusters:
            raise Refused("Cluster", "bad", "type", "is bad")
        self.applied.append(resources)

    async def wait_warming(self, known: frozenset[str] | None) -> frozenset[str]:
        return frozenset()

    async def samples(self) -> list[Sample]:
        return []

    async def clusters(self) -> list[ClusterStatus]:
        return []

    async def listeners(self) -> list[ListenerStatus]:
        return []

    async def reset_counters(self) -> None: ...
    async def drain(self, *, inbound_only: bool = False, keeps_accepting: bool = False) -> None: ...
    async def close(self, grace_s: float) -> None: ...


@pytest.fixture
def plane() -> Recorder:
    return Recorder()


@pytest.fixture
def configuration(plane: Recorder) -> Configuration:
    made = Configuration(Resources(clusters={"static": Cluster(name="static")}), plane)
    run(made.start())
    return made


def run(work: Awaitable[None]) -> None:
    async def main() -> None:
        await work

    asyncio.run(main())


def eds(name: str, service: str = "", **fields: Any) -> Cluster:
    made = Cluster(name=name, type=Cluster.EDS, **fields)
    made.eds_cluster_config.service_name = service
    made.eds_cluster_config.eds_config.ads.SetInParent()
    return made


def rds(name: str, table: str) -> Listener:
    manager = HttpConnectionManager(stat_prefix=name)
    manager.rds.route_config_name = table
    manager.rds.config_source.ads.SetInParent()
    made = Listener(name=name)
    made.filter_chains.add().filters.add().typed_config.Pack(manager)
    return made


def test_a_cold_cluster_does_not_serve_but_is_judged(configuration: Configuration, plane: Recorder) -> None:
    run(configuration.replace(CLUSTER, {"a": eds("a")}, "1"))
    assert set(plane.applied[-1].clusters) == {"static"}
    assert set(plane.checked[-1].clusters) == {"a", "static"}
    assert configuration.cold == {(CLUSTER, "a")}
    assert list(configuration.active.expected) == ["a"]  # routes may name it already
    assert list(configuration.missing()) == [(ENDPOINT, "a")]
    run(configuration.merge(ENDPOINT, {"a": ClusterLoadAssignment(cluster_name="a")}, "1"))
    assert set(plane.applied[-1].clusters) == {"a", "static"}
    assert not configuration.cold
    assert not configuration.active.expected
    with pytest.raises(Refused):
        run(configuration.replace(CLUSTER, {"bad": eds("bad")}, "2"))


def test_a_refused_update_changes_nothing(configuration: Configuration, plane: Recorder) -> None:
    run(configuration.replace(CLUSTER, {"a": Cluster(name="a")}, "1"))
    before = (configuration.accepted, configuration.active, dict(configuration.origins), len(plane.applied))
    with pytest.raises(Refused, match='Cluster "bad": type: is bad'):
        run(configuration.replace(CLUSTER, {"bad": Cluster(name="bad"), "b": Cluster(name="b")}, "2"))
    assert (configuration.accepted, configuration.active, configuration.origins, len(plane.applied)) == before
    assert (configuration.rejections[CLUSTER, "bad"].version, configuration.versions[CLUSTER]) == ("2", "1")


def test_an_equal_message_stays_the_same_object(configuration: Configuration, plane: Recorder) -> None:
    run(configuration.replace(CLUSTER, {"a": Cluster(name="a"), "b": Cluster(name="b")}, "1"))
    first = plane.applied[-1]
    run(configuration.replace(CLUSTER, {"a": Cluster(name="a"), "b": Cluster(name="b", alt_stat_name="x")}, "2"))
    assert plane.applied[-1].clusters["a"] is first.clusters["a"]
    assert plane.applied[-1].clusters["b"] is not first.clusters["b"]
    assert (configuration.origins[CLUSTER, "a"].version, configuration.origins[CLUSTER, "b"].version) == ("1", "2")


def test_a_static_cluster_is_not_replaced(configuration: Configuration, plane: Recorder) -> None:
    run(configuration.replace(CLUSTER, {"static": Cluster(name="static", alt_stat_name="other")}, "1"))
    assert plane.applied[-1].clusters["static"].alt_stat_name == ""
    run(configuration.replace(CLUSTER, {}, "2"))
    assert set(plane.applied[-1].clusters) == {"static"}


def test_the_old_listener_and_its_routes_serve_until_the_new_ones_have_come(
    configuration: Configuration, plane: Recorder
) -> None:
    run(configuration.replace(LISTENER, {"in": rds("in", "old")}, "1"))
    run(configuration.merge(ROUTE, {"old": RouteConfiguration(name="old")}, "1"))
    serving = plane.applied[-1].listeners["in"]
    run(configuration.replace(LISTENER, {"in": rds("in", "new")}, "2"))
    assert plane.applied[-1].listeners["in"] is serving
    assert set(plane.applied[-1].routes) == {"old"}
    assert set(configuration.wanted) == {(ROUTE, "old"), (ROUTE, "new")}
    run(configuration.merge(ROUTE, {"new": RouteConfiguration(name="new")}, "2"))
    assert plane.applied[-1].listeners["in"] is not serving
    assert set(plane.applied[-1].routes) == {"new"}
    assert set(configuration.wanted) == {(ROUTE, "new")}


def test_what_nobody_refers_to_is_forgotten_and_must_come_again(configuration: Configuration) -> None:
    run(configuration.replace(CLUSTER, {"a": eds("a", "endpoints-of-a")}, "1"))
    run(configuration.merge(ENDPOINT, {"endpoints-of-a": ClusterLoadAssignment(cluster_name="endpoints-of-a")}, "1"))
    run(configuration.replace(CLUSTER, {}, "2"))
    assert not configuration.accepted.endpoints
    run(configuration.replace(CLUSTER, {"a": eds("a", "endpoints-of-a")}, "3"))
    assert configuration.cold == {(CLUSTER, "a")}


def test_an_expired_wait_lets_it_serve_without(configuration: Configuration, plane: Recorder) -> None:
    run(configuration.replace(CLUSTER, {"a": eds("a")}, "1"))
    run(configuration.expire(frozenset({(ENDPOINT, "a")})))
    assert set(plane.applied[-1].clusters) == {"a", "static"}
    assert not configuration.missing()


def test_the_control_planes_cluster_is_never_handed_over(plane: Recorder) -> None:
    static = Resources(clusters={"xds": Cluster(name="xds"), "app": Cluster(name="app")})
    configuration = Configuration(static, plane, frozenset({"xds"}))
    run(configuration.start())
    assert set(plane.applied[-1].clusters) == {"app"}
    assert set(configuration.accepted.clusters) == {"xds", "app"}


def test_watchers_hear_of_accepted_updates_only(configuration: Configuration) -> None:
    heard: list[int] = []
    configuration.watch(lambda: heard.append(1))
    run(configuration.replace(CLUSTER, {"a": Cluster(name="a")}, "1"))
    with pytest.raises(Refused):
        run(configuration.replace(CLUSTER, {"bad": Cluster(name="bad")}, "2"))
    assert heard == [1]
