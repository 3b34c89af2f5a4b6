"""Outlier detection with a clock in hand: closed, open, half-open."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy.observe.upstream_counters import ClusterStats
from mesh.proxy.upstream.outlier import Health, OutlierConfig, OutlierDetector
from mesh.proxy.upstream.success_rate import Comparison, Tally, compare


class Lab:
    def __init__(self, hosts: int, **config: Any) -> None:
        self.now = 100.0
        self.changes = 0
        self.stats = ClusterStats()
        self.detector = OutlierDetector(OutlierConfig(**config), self.stats, lambda: self.now, self._changed)
        self.hosts = [Health() for _ in range(hosts)]
        self.detector.replace_hosts(self.hosts)

    def _changed(self) -> None:
        self.changes += 1

    def fail(self, host: int, times: int, status: int = 500) -> None:
        for _ in range(times):
            self.detector.responded(self.hosts[host], status)

    def ejected(self) -> list[int]:
        return [index for index, host in enumerate(self.hosts) if host.ejected]


def test_a_run_of_5xx_ejects_and_a_success_breaks_the_run() -> None:
    lab = Lab(10)
    lab.fail(0, 4)
    lab.fail(0, 1, 200)
    lab.fail(0, 4)
    assert lab.ejected() == []
    lab.fail(0, 1)
    assert lab.ejected() == [0]
    assert lab.stats.outlier_detection__ejections_active == 1
    assert lab.stats.outlier_detection__ejections_enforced_consecutive_5xx == 1
    assert lab.changes == 1


def test_the_default_of_ten_percent_never_ejects_of_fewer_than_ten_hosts() -> None:
    lab = Lab(9)
    lab.fail(0, 5)
    assert lab.ejected() == []
    assert lab.stats.outlier_detection__ejections_overflow == 1


def test_no_more_hosts_are_ejected_than_the_maximum() -> None:
    lab = Lab(4, max_ejection_percent=50)
    for host in range(4):
        lab.fail(host, 5)
    assert lab.ejected() == [0, 1]
    assert lab.stats.outlier_detection__ejections_overflow == 2


def test_one_host_may_always_be_ejected_if_so_configured() -> None:
    lab = Lab(2, always_eject_one_host=True)
    lab.fail(0, 5)
    lab.fail(1, 5)
    assert lab.ejected() == [0]


def test_it_returns_after_its_time_and_goes_for_longer_the_next_time() -> None:
    lab = Lab(1, max_ejection_percent=100, base_ejection_time=30)
    lab.fail(0, 5)
    lab.now += 29.9
    lab.detector.sweep()
    assert lab.ejected() == [0]
    lab.now += 0.1
    lab.detector.sweep()
    assert lab.ejected() == []
    assert lab.stats.outlier_detection__ejections_active == 0
    lab.fail(0, 5)  # half-open: it failed again
    lab.now += 59
    lab.detector.sweep()
    assert lab.ejected() == [0]
    lab.now += 1
    lab.detector.sweep()
    assert lab.ejected() == []


def test_good_behaviour_shortens_the_next_ejection_again() -> None:
    lab = Lab(1, max_ejection_percent=100, base_ejection_time=30)
    lab.fail(0, 5)
    lab.now += 30
    lab.detector.sweep()
    lab.detector.sweep()
    lab.fail(0, 5)
    assert lab.detector.ejection_time(lab.hosts[0]) == 30


def test_ejections_stop_growing_at_the_longest() -> None:
    lab = Lab(1, max_ejection_percent=100, base_ejection_time=30, max_ejection_time=50)
    for _ in range(4):
        lab.fail(0, 5)
        lab.now += 50
        lab.detector.sweep()
        assert lab.ejected() == []


def test_gateway_failures_are_a_detector_of_their_own() -> None:
    lab = Lab(1, max_ejection_percent=100, consecutive_gateway_failure=2, enforcing_consecutive_gateway_failure=100)
    lab.fail(0, 1, 503)
    lab.fail(0, 1, 500)
    lab.fail(0, 1, 503)
    assert lab.ejected() == []
    lab.fail(0, 1, 504)
    assert lab.ejected() == [0]
    assert lab.stats.outlier_detection__ejections_enforced_consecutive_gateway_failure == 1


def test_what_is_not_enforced_is_only_counted() -> None:
    lab = Lab(1, max_ejection_percent=100, enforcing_consecutive_5xx=0)
    lab.fail(0, 5)
    assert lab.ejected() == []
    assert lab.stats.outlier_detection__ejections_detected_consecutive_5xx == 1


def test_local_failures_count_apart_when_split() -> None:
    lab = Lab(1, max_ejection_percent=100, split_external_local_origin_errors=True)
    for _ in range(4):
        lab.detector.failed_locally(lab.hosts[0], 503)
    assert lab.hosts[0].consecutive_5xx == 0
    lab.detector.failed_locally(lab.hosts[0], 503)
    assert lab.ejected() == [0]
    assert lab.stats.outlier_detection__ejections_enforced_consecutive_local_origin_failure == 1


def test_local_failures_are_5xx_when_not_split() -> None:
    lab = Lab(1, max_ejection_percent=100)
    for _ in range(5):
        lab.detector.failed_locally(lab.hosts[0], 503)
    assert lab.stats.outlier_detection__ejections_enforced_consecutive_5xx == 1


def split(hosts: int, **config: Any) -> Lab:
    return Lab(hosts, max_ejection_percent=100, consecutive_5xx=10**6, **config)


def respond(lab: Lab, *shares: int) -> None:
    """A hundred responses of each host, of which so many are good."""
    for host, good in enumerate(shares):
        for number in range(100):
            lab.detector.responded(lab.hosts[host], 200 if number < good else 500)


def test_a_host_far_below_its_peers_is_ejected() -> None:
    lab = split(6)
    respond(lab, 100, 100, 100, 100, 100, 50)
    lab.detector.sweep()
    assert lab.ejected() == [5]
    assert lab.stats.outlier_detection__ejections_enforced_success_rate == 1
    assert lab.hosts[5].remote.rate == 50
    assert lab.detector.remote.average == pytest.approx(550 / 6)


def test_hosts_that_are_all_alike_stay() -> None:
    lab = split(6)
    respond(lab, 50, 50, 50, 50, 50, 50)
    lab.detector.sweep()
    assert lab.ejected() == []


def test_too_few_hosts_or_requests_are_not_compared() -> None:
    few = split(4)
    respond(few, 100, 100, 100, 0)
    few.detector.sweep()
    assert few.ejected() == []
    quiet = split(6, comparison=Comparison(request_volume=101))
    respond(quiet, 100, 100, 100, 100, 100, 0)
    quiet.detector.sweep()
    assert quiet.ejected() == []
    assert quiet.hosts[5].remote.rate == 0  # enough for the other detector to tell


def test_each_interval_is_judged_for_itself() -> None:
    lab = split(6)
    respond(lab, 100, 100, 100, 100, 100, 99)
    lab.detector.sweep()
    lab.detector.sweep()
    assert lab.hosts[5].remote.rate == -1
    assert lab.detector.remote.average == -1


def test_too_many_failures_eject_where_that_is_enforced() -> None:
    config: dict[str, Any] = {"enforcing_success_rate": 0, "comparison": Comparison(failure_minimum_hosts=2)}
    lab = split(2, enforcing_failure_percentage=100, **config)
    respond(lab, 16, 15)
    lab.detector.sweep()
    assert lab.ejected() == [1]
    assert lab.stats.outlier_detection__ejections_enforced_failure_percentage == 1
    lenient = split(2, **config)
    respond(lenient, 16, 15)
    lenient.detector.sweep()
    assert lenient.ejected() == []
    assert lenient.stats.outlier_detection__ejections_detected_failure_percentage == 1


def test_local_failures_have_a_rate_of_their_own_when_split() -> None:
    lab = split(6, split_external_local_origin_errors=True, consecutive_local_origin_failure=10**6)
    respond(lab, 100, 100, 100, 100, 100, 0)
    for _ in range(100):
        lab.detector.failed_locally(lab.hosts[4], 503)
    lab.detector.sweep()
    assert lab.ejected() == [4, 5]
    assert lab.stats.outlier_detection__ejections_enforced_local_origin_success_rate == 1
    assert lab.stats.outlier_detection__ejections_enforced_success_rate == 1
    assert lab.hosts[4].local.rate == 50


def test_a_reset_of_a_connection_that_stood_breaks_the_run_of_connect_failures() -> None:
    lab = Lab(1, max_ejection_percent=100, split_external_local_origin_errors=True)
    for _ in range(10):
        lab.detector.failed_locally(lab.hosts[0], 503, was_connected=True)
    assert lab.ejected() == []


@pytest.mark.parametrize("returns", [True, False])
def test_a_passed_health_check_brings_a_host_back_if_so_configured(returns: bool) -> None:
    lab = Lab(1, max_ejection_percent=100, returns_after_check=returns)
    lab.fail(0, 5)
    lab.detector.passed_check(lab.hosts[0])
    assert lab.ejected() == ([] if returns else [0])


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=12))
def test_nobody_is_singled_out_who_is_not_below_the_average(counts: list[tuple[int, int]]) -> None:
    tallies = []
    for good, bad in counts:
        tally = Tally()
        tally.total, tally.good = good + bad, good
        tallies.append(tally)
    verdict = compare(tallies, (), Comparison(minimum_hosts=1, request_volume=1))
    for at in verdict.slow:
        assert tallies[at].rate < verdict.average
    assert all(tally.total == 0 for tally in tallies)
