"""Faults on the network of pods: what each does between two small pods, to whom it does nothing, and that it is undone.

Bounds are lower ones: a loaded machine may be slower than a fault, and never faster.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from lab_user import User

SCRIPTS = Path(__file__).parent / "fault_scripts.py"


def measured(user: User, script: str) -> Any:
    """What a script saw; the test is skipped where the kernel lacks what a fault needs, and says what."""
    mine = dataclasses.replace(user, scripts=SCRIPTS)
    lacking = mine.run("probe")["lacking"]
    if lacking:
        pytest.skip("; ".join(f"no {name}: {why}" for name, why in lacking.items()))
    return mine.run(script)


def test_a_delay_is_on_every_round_trip_in_its_direction_and_on_no_other_pods(user: User) -> None:
    found = measured(user, "delay")
    latency, jitter = 0.1, 0.03
    for direction, ways in (("to", 1), ("from", 1), ("both", 2)):
        assert min(found[direction]) >= ways * (latency - jitter)
        assert found[f"laid for {direction}"] == ways + 2  # a rule each way, and two queues
        assert found[f"left of {direction}"] == []
    assert found["packets of the bystander"] == 0


def test_jitter_never_reorders(user: User) -> None:
    assert measured(user, "order") == {"in order": True, "heard": 50}


def test_what_waits_when_a_delay_ends_goes_on_at_once(user: User) -> None:
    assert measured(user, "lifted_while_it_waits") == {"heard": "ping", "left": []}


def test_packets_pass_when_nobody_reads_their_queue(user: User) -> None:
    assert measured(user, "no_reader") == {"met": True}


def test_no_more_than_the_bandwidth_gets_through(user: User) -> None:
    found = measured(user, "bandwidth")
    assert found["took"] >= 60_000 * 8 / 800_000
    assert found["left"] == []


def test_a_partition_parts_two_pods_or_one_from_all_and_what_was_said_arrives_when_it_heals(user: User) -> None:
    assert measured(user, "partition") == {
        "while parted": [False, False],
        "left": [],
        "heard": "late",
        "alone": [False, False],
    }


def test_a_quarter_of_the_packets_is_lost(user: User) -> None:
    found = measured(user, "loss")
    # 2,000 at 25 %: 500, and more than 9 standard deviations of 19.4 is less than once in 10**18.
    assert 320 <= found["dropped"] <= 680
    assert found["left"] == []


def test_a_reset_ends_connections_and_refuses_new_ones(user: User) -> None:
    assert measured(user, "reset") == {
        "established": "ConnectionResetError",
        "new": "ConnectionRefusedError",
        "left": [],
    }


def test_names_fail_for_one_pod_as_asked(user: User) -> None:
    found = measured(user, "dns")
    assert found["before"] == found["after"] == found["of another pod"] == ["reviews.default", 0]
    assert found["SERVFAIL"] == ["reviews.default", 2]
    assert found["NXDOMAIN"] == ["reviews.default", 3]
    assert found["TIMEOUT"] == ["other.default", 0]
