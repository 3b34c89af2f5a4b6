"""Following a breaker: what is seen of a host, and the states, spans and trespasses that follow from it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from chaos.breaker import Breaker, Sight, State, problems

WHOLE: tuple[State, ...] = ("closed", "open", "half-open", "open", "half-open", "closed")


def follow(steps: Sequence[tuple[float, str]]) -> Breaker:
    """`steps` are (seconds, what was seen).

    `f`: failed at the host; `k`: answered by it; `-`: went elsewhere. In upper case (`_` for `-`) the proxy then calls
    the host ejected.
    """
    breaker = Breaker(base=1.0, interval=0.5, settle=0.2)
    for at, seen in steps:
        breaker.see(Sight(at, at + 0.01, hit=seen.lower() in "fk", failed=seen.lower() == "f", ejected=seen in "FK_"))
    return breaker


GOOD = [
    *((0.1, "f"), (0.2, "f"), (0.3, "F")),
    *((0.8, "_"), (1.2, "_"), (1.5, "-")),
    *((1.55, "f"), (1.6, "f"), (1.65, "F")),
    *((2.5, "_"), (3.6, "_"), (3.8, "-"), (3.9, "k")),
]


def test_the_three_states_are_seen_in_order_with_a_longer_second_ejection() -> None:
    breaker = follow(GOOD)
    assert tuple(breaker.states) == WHOLE
    assert [round(span.end - span.begin, 2) for span in breaker.spans] == [1.21, 2.16]
    assert [span.due for span in breaker.spans] == [1.0, 2.0]
    assert problems(breaker, WHOLE) == []


def test_a_host_that_is_never_ejected_stays_closed_and_is_a_problem() -> None:
    breaker = follow([(0.1 * step, "f") for step in range(6)])
    assert breaker.states == ["closed"]
    assert "states seen: closed; expected: closed -> open" in problems(breaker, WHOLE)[0]


def test_an_ejection_that_ends_early_is_a_problem() -> None:
    breaker = follow([(0.1, "F"), (0.5, "_"), (0.9, "-"), (1.0, "k")])
    assert problems(breaker, ("closed", "open", "half-open", "closed")) == ["ejection 1 lasted 0.81 s, less than 1 s"]


def test_a_second_ejection_no_longer_than_the_first_is_a_problem() -> None:
    early = [*GOOD[:9], (2.2, "_"), (3.0, "-"), (3.1, "k")]
    assert problems(follow(early), WHOLE) == ["ejection 2 lasted 1.36 s, less than 2 s"]


def test_each_tick_spent_in_the_balancer_takes_from_the_multiplier() -> None:
    late = [*GOOD[:6], (1.8, "f"), (2.0, "f"), (2.3, "F"), (2.6, "_"), (3.4, "-"), (3.5, "k")]
    breaker = follow(late)
    assert [span.due for span in breaker.spans] == [1.0, 1.0]
    assert problems(breaker, WHOLE) == []


def test_traffic_to_an_ejected_host_is_a_problem_once_the_proxy_had_time_to_act() -> None:
    settling = [(0.1, "F"), (0.2, "K"), (0.25, "_"), (1.5, "-"), (1.6, "k")]
    assert follow(settling).trespasses == 0
    trespassing = [(0.1, "F"), (0.2, "_"), (0.6, "K"), (0.7, "F"), (1.5, "-"), (1.6, "k")]
    breaker = follow(trespassing)
    assert breaker.trespasses == 2
    assert problems(breaker, ("closed", "open", "half-open", "closed")) == [
        "2 requests reached the host while it was ejected"
    ]


def test_a_request_that_finds_the_host_back_is_answered_half_open() -> None:
    breaker = follow([(0.1, "F"), (0.9, "_")])
    assert breaker.see(Sight(1.3, 1.31, hit=True, failed=False, ejected=False)) == "half-open"
    assert breaker.state == "closed"


@pytest.mark.parametrize("failures", [1, 2])
def test_failures_on_trial_short_of_the_threshold_keep_it_half_open(failures: int) -> None:
    steps = [(0.1, "F"), (0.9, "_"), (1.3, "-"), *((1.4 + n / 100, "f") for n in range(failures))]
    assert follow(steps).state == "half-open"
