"""Outlier detection with a clock in hand: closed, open, half-open."""

from __future__ import annotations

from typing import Any

from mesh.proxy.counters import ClusterStats
from mesh.proxy.outlier import Health, OutlierConfig, OutlierDetector


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
