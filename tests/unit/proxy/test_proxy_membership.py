"""Hosts of a cluster as endpoints come and go, with active health checks looking on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mesh.proxy.deadlines import Deadlines
from mesh.proxy.observe.upstream_counters import ClusterStats
from mesh.proxy.upstream.cluster import Cluster
from mesh.proxy.upstream.cluster_config import ClusterConfig
from mesh.proxy.upstream.endpoint import Assignment, EdsHealth, Endpoint
from mesh.proxy.upstream.health.checker import HealthCheckConfig
from mesh.proxy.upstream.health.session import Outcome, Pace
from mesh.proxy.upstream.host import Host

FAST = Pace(1, 1, 1, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001)


class Doctor:
    """Checks hosts and says what `verdicts` has for their ports; others are well."""

    def __init__(self) -> None:
        self.verdicts: dict[int, Outcome] = {}

    def probe(self, host: Host) -> Probe:
        return Probe(self, host)


class Probe:
    def __init__(self, doctor: Doctor, host: Host) -> None:
        self._doctor = doctor
        self._host = host

    async def check(self) -> Outcome:
        return self._doctor.verdicts.get(self._host.endpoint.port, Outcome.PASSED)

    def close(self) -> None: ...


def endpoints(*ports: int, status: EdsHealth = EdsHealth.HEALTHY) -> Assignment:
    return Assignment(tuple(Endpoint("127.0.0.1", port, status=status) for port in ports))


def play(scene: Callable[[Cluster, Doctor], Awaitable[None]], **config: bool) -> None:
    async def main() -> None:
        doctor, loop = Doctor(), asyncio.get_running_loop()
        checked = ClusterConfig("c", health_check=HealthCheckConfig(FAST, doctor.probe), **config)  # type: ignore[arg-type]
        cluster = Cluster(checked, ClusterStats(), loop, Deadlines(loop, 1.0), loop.create_task)
        await asyncio.wait_for(scene(cluster, doctor), 20)
        cluster.close()

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the cluster tells nobody of what its checks change
        await asyncio.sleep(0.001)


def ports(cluster: Cluster) -> list[int]:
    return [host.endpoint.port for host in cluster.hosts]


def test_a_host_that_is_well_outlives_its_endpoint() -> None:
    async def scene(cluster: Cluster, doctor: Doctor) -> None:
        cluster.replace_endpoints(endpoints(1, 2))
        await cluster.wait_warm()
        cluster.replace_endpoints(endpoints(1))
        assert ports(cluster) == [1, 2]
        assert cluster.hosts[1].health_flags() == ("pending_dynamic_removal",)
        doctor.verdicts[2] = Outcome.REFUSED
        await until(lambda: ports(cluster) == [1])

    play(scene)


def test_it_stays_for_good_if_its_endpoint_comes_back() -> None:
    async def scene(cluster: Cluster, doctor: Doctor) -> None:
        cluster.replace_endpoints(endpoints(1, 2))
        await cluster.wait_warm()
        before = cluster.hosts
        cluster.replace_endpoints(endpoints(1))
        cluster.replace_endpoints(endpoints(1, 2))
        assert cluster.hosts == before
        assert cluster.hosts[1].health_flags() == ()

    play(scene)


def test_it_goes_at_once_where_checks_are_not_asked() -> None:
    async def scene(cluster: Cluster, doctor: Doctor) -> None:
        cluster.replace_endpoints(endpoints(1, 2))
        await cluster.wait_warm()
        cluster.replace_endpoints(endpoints(1))
        assert ports(cluster) == [1]

    play(scene, removes_healthy_hosts=True)


def test_a_failed_host_goes_with_its_endpoint() -> None:
    async def scene(cluster: Cluster, doctor: Doctor) -> None:
        doctor.verdicts[2] = Outcome.UNREACHABLE
        cluster.replace_endpoints(endpoints(1, 2))
        await cluster.wait_warm()
        assert cluster.stats.membership_healthy == 1
        cluster.replace_endpoints(endpoints(1))
        assert ports(cluster) == [1]

    play(scene)


def test_new_hosts_do_not_count_before_their_first_check_if_so_configured() -> None:
    async def scene(cluster: Cluster, doctor: Doctor) -> None:
        cluster.replace_endpoints(endpoints(1, 2))
        assert cluster.stats.membership_excluded == 2
        await cluster.wait_warm()
        assert (cluster.stats.membership_excluded, cluster.stats.membership_healthy) == (0, 2)

    play(scene, ignores_new_hosts=True)


def test_a_host_that_asks_for_no_more_is_excluded_until_it_passes() -> None:
    async def scene(cluster: Cluster, doctor: Doctor) -> None:
        cluster.replace_endpoints(endpoints(1))
        await cluster.wait_warm()
        assert cluster.checker is not None
        cluster.checker.told_to_fail(cluster.hosts[0])
        assert cluster.stats.membership_excluded == 1
        await until(lambda: cluster.stats.membership_healthy == 1)
        assert cluster.stats.membership_excluded == 0

    play(scene)


def test_what_the_control_plane_says_counts_beside_the_checks() -> None:
    async def scene(cluster: Cluster, doctor: Doctor) -> None:
        cluster.replace_endpoints(endpoints(1, status=EdsHealth.DRAINING))
        await cluster.wait_warm()
        assert cluster.hosts[0].health_flags() == ("eds_status_draining",)
        assert cluster.stats.membership_healthy == 0

    play(scene)
