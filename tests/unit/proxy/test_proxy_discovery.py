"""Hosts that a cluster finds itself: addresses of names, and destinations that clients ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy.deadlines import Deadlines
from mesh.proxy.http1.parse import parse_request
from mesh.proxy.observe.upstream_counters import ClusterStats
from mesh.proxy.upstream.cluster import Cluster
from mesh.proxy.upstream.cluster_config import ClusterConfig
from mesh.proxy.upstream.discovery.dns import DnsConfig, Family
from mesh.proxy.upstream.discovery.original_dst import OriginalDstConfig, address_of, number_of, number_of_address
from mesh.proxy.upstream.endpoint import Assignment, Endpoint

BOTH = ["::1", "10.0.0.1", "::2", "10.0.0.1"]


@pytest.mark.parametrize(
    ("family", "addresses", "chosen"),
    [
        (Family.ALL, BOTH, ["::1", "10.0.0.1", "::2"]),
        (Family.AUTO, BOTH, ["::1", "::2"]),
        (Family.AUTO, ["10.0.0.1"], ["10.0.0.1"]),
        (Family.V4_ONLY, BOTH, ["10.0.0.1"]),
        (Family.V6_ONLY, ["10.0.0.1"], []),
        (Family.V4_PREFERRED, BOTH, ["10.0.0.1"]),
        (Family.V4_PREFERRED, ["::1"], ["::1"]),
    ],
)
def test_the_family_decides_of_addresses(family: Family, addresses: list[str], chosen: list[str]) -> None:
    assert family.choose(addresses) == chosen


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_address_survives_being_a_number(ip: object, port: int) -> None:
    assert address_of(number_of_address(str(ip), port)) == (str(ip), port)


@pytest.mark.parametrize(
    "text", ["", "10.0.0.1", "host:80", "::1:80", "[::1%lo]:80", "10.0.0.1:65536", "10.0.0.1:x", ":80"]
)
def test_nonsense_is_no_destination(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        number_of(text)


def with_cluster(config: ClusterConfig, scene: Callable[[Cluster], None]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []

        def spawn(work: object) -> asyncio.Task[None]:
            tasks.append(asyncio.ensure_future(work))  # type: ignore[arg-type]
            return tasks[-1]

        cluster = Cluster(config, ClusterStats(), loop, Deadlines(loop, 1.0), spawn)
        cluster.discover()
        await cluster.wait_warm()
        scene(cluster)
        cluster.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


def test_a_name_is_as_many_hosts_as_it_has_addresses() -> None:
    def scene(cluster: Cluster) -> None:
        assert [(host.endpoint.ip, host.endpoint.hostname) for host in cluster.hosts] == [("127.0.0.1", "localhost")]
        assert cluster.stats.update_success == 1

    localhost = Assignment((Endpoint("localhost", 80),))
    with_cluster(ClusterConfig("c", dns=DnsConfig(family=Family.V4_ONLY), assignment=localhost), scene)


def test_a_name_that_does_not_resolve_leaves_the_cluster_empty() -> None:
    def scene(cluster: Cluster) -> None:
        assert cluster.hosts == ()
        assert cluster.stats.update_failure == 1

    nowhere = Assignment((Endpoint("nowhere.invalid", 80),))
    with_cluster(ClusterConfig("c", dns=DnsConfig(), assignment=nowhere), scene)


def test_a_logical_host_moves_with_its_name() -> None:
    def scene(cluster: Cluster) -> None:
        (host,) = cluster.hosts
        cluster._resolved(Assignment((Endpoint("127.0.0.9", 80),)))
        assert cluster.hosts == (host,)
        assert host.address == "127.0.0.9:80"

    localhost = Assignment((Endpoint("127.0.0.1", 80),))
    with_cluster(ClusterConfig("c", dns=DnsConfig(is_logical=True), assignment=localhost), scene)


def test_destinations_are_hosts_while_somebody_wants_them() -> None:
    def scene(cluster: Cluster) -> None:
        wanted = cluster.original_dst
        assert wanted is not None
        head = parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nx-to: 127.0.0.1:81")
        first = cluster.pick(wanted.key(head, None))
        assert first is not None
        assert (first.address, cluster.stats.membership_total) == ("127.0.0.1:8080", 1)
        assert cluster.pick(wanted.key(None, ("127.0.0.1", 99))) is first  # the port is overridden
        assert cluster.pick(wanted.key(None, None)) is None
        assert wanted.unused() == []
        assert wanted.unused() == [first]

    with_cluster(ClusterConfig("c", original_dst=OriginalDstConfig(b"x-to", 8080)), scene)
