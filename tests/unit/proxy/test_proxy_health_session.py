"""A host's health by its checks: thresholds, what counts at once, and when the next check comes."""

from __future__ import annotations

import pytest

from mesh.proxy.upstream.health.http import HttpCheck
from mesh.proxy.upstream.health.session import CheckedHealth, Outcome, Pace, Session
from mesh.proxy.upstream.health.tcp import contains

PACE = Pace(
    timeout=1,
    unhealthy_threshold=3,
    healthy_threshold=2,
    interval=10,
    unhealthy_interval=20,
    unhealthy_edge_interval=3,
    healthy_edge_interval=4,
    no_traffic_interval=60,
    no_traffic_healthy_interval=90,
)


class Lab:
    def __init__(self, *outcomes: Outcome, has_traffic: bool = True, pace: Pace = PACE) -> None:
        self.health = CheckedHealth()
        self.session = Session(pace, self.health)
        self.has_traffic = has_traffic
        for outcome in outcomes:
            self.record(outcome)

    def record(self, outcome: Outcome) -> tuple[bool, float]:
        return self.session.record(outcome, self.has_traffic)


def test_a_host_is_failed_until_its_first_check_which_decides_alone() -> None:
    lab = Lab()
    assert lab.health.has_failed
    assert lab.health.is_pending
    assert lab.record(Outcome.PASSED) == (True, 10)
    assert not lab.health.has_failed
    assert not lab.health.is_pending


def test_a_run_of_failures_takes_a_host_out_with_the_edge_interval_meanwhile() -> None:
    lab = Lab(Outcome.PASSED)
    assert lab.record(Outcome.UNREACHABLE) == (False, 3)
    assert lab.record(Outcome.TIMED_OUT) == (False, 3)
    assert lab.record(Outcome.RETRIABLE) == (True, 20)
    assert lab.health.has_failed
    assert lab.record(Outcome.UNREACHABLE) == (False, 20)


def test_a_pass_in_between_starts_the_count_again() -> None:
    lab = Lab(Outcome.PASSED, Outcome.UNREACHABLE, Outcome.UNREACHABLE, Outcome.PASSED, Outcome.UNREACHABLE)
    assert not lab.health.has_failed


def test_an_answer_that_says_no_is_believed_at_once() -> None:
    lab = Lab(Outcome.PASSED)
    assert lab.record(Outcome.REFUSED) == (True, 20)


def test_coming_back_takes_a_run_of_passes() -> None:
    lab = Lab(Outcome.PASSED, Outcome.REFUSED)
    assert lab.record(Outcome.PASSED) == (False, 4)
    assert lab.record(Outcome.PASSED) == (True, 10)
    assert not lab.health.has_failed


def test_without_traffic_checks_are_rare() -> None:
    lab = Lab(has_traffic=False)
    assert lab.record(Outcome.REFUSED) == (True, 60)
    assert lab.record(Outcome.PASSED) == (False, 60)
    assert lab.record(Outcome.PASSED) == (True, 90)


def test_degraded_is_a_pass_with_a_mark() -> None:
    lab = Lab(Outcome.PASSED)
    assert lab.record(Outcome.DEGRADED)[0]
    assert lab.health.is_degraded
    assert not lab.record(Outcome.DEGRADED)[0]
    assert lab.record(Outcome.PASSED)[0]


def test_a_timeout_shows_until_the_next_answer() -> None:
    lab = Lab(Outcome.TIMED_OUT)
    assert lab.health.has_timed_out
    lab.record(Outcome.UNREACHABLE)
    assert not lab.health.has_timed_out


def test_jitter_only_adds() -> None:
    pace = Pace(**{**{name: getattr(PACE, name) for name in PACE.__slots__}, "interval_jitter_percent": 50})
    lab = Lab(Outcome.PASSED, pace=pace)
    pauses = [lab.record(Outcome.PASSED)[1] for _ in range(50)]
    assert min(pauses) >= 10
    assert max(pauses) < 15


@pytest.mark.parametrize(
    ("data", "pieces", "found"),
    [
        (b"+PONG\r\n", (b"PONG",), True),
        (b"one two", (b"one", b"two"), True),
        (b"two one", (b"one", b"two"), False),
        (b"on", (b"one",), False),
        (b"", (), True),
    ],
)
def test_pieces_come_in_their_order_with_anything_in_between(
    data: bytes, pieces: tuple[bytes, ...], found: bool
) -> None:
    assert contains(data, pieces) is found


def test_a_check_asks_for_200_unless_told_otherwise() -> None:
    assert 200 in HttpCheck(b"/").expected
    assert 204 not in HttpCheck(b"/").expected
