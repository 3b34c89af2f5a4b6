"""The hub's rules of faults. What the kernel makes of them is tested in a lab."""

from datetime import timedelta

import pytest

from mesh.api.pod_fault import Bandwidth, Delay, Direction, Loss, NetworkEffect, Partition, Reset
from mesh.platforms.netns.faults.rules import CHAIN, Cut, table

ONE, TWO, THREE = "10.244.0.2", "10.244.0.3", "10.244.0.4"


def rules(*cuts: Cut) -> list[str]:
    lines = table(cuts).splitlines()
    assert lines[:2] == ["*filter", f":{CHAIN} - [0:0]"]  # which empties the chain
    assert lines[-1] == "COMMIT"
    return [line.removeprefix(f"-A {CHAIN} ") for line in lines[2:-1]]


def test_no_fault_is_an_empty_chain() -> None:
    assert rules() == []


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        (Partition(), "-j DROP"),
        (Loss(percent=12.5), "-m statistic --mode random --probability 0.125000000 -j DROP"),
        (Reset(), "-p tcp -j REJECT --reject-with tcp-reset"),
        (Bandwidth(rate=1), "-j NFQUEUE --queue-num 7 --queue-bypass"),
        (Delay(latency=timedelta(seconds=1)), "-j NFQUEUE --queue-num 7 --queue-bypass"),
    ],
)
def test_each_effect_has_its_verdict(effect: NetworkEffect, verdict: str) -> None:
    assert rules(Cut(ONE, effect, Direction.TO, [TWO], (7, 8))) == [f"-s {ONE}/32 -d {TWO}/32 {verdict}"]


def test_directions_are_seen_from_the_pod_and_each_has_a_queue_of_its_own() -> None:
    def of(direction: Direction) -> list[str]:
        return rules(Cut(ONE, Bandwidth(rate=1), direction, [TWO], (7, 8)))

    sent = f"-s {ONE}/32 -d {TWO}/32 -j NFQUEUE --queue-num 7 --queue-bypass"
    received = f"-s {TWO}/32 -d {ONE}/32 -j NFQUEUE --queue-num 8 --queue-bypass"
    assert of(Direction.TO) == [sent]
    assert of(Direction.FROM) == [received]
    assert of(Direction.BOTH) == [sent, received]


def test_without_others_it_is_everybody_and_with_none_nobody() -> None:
    assert rules(Cut(ONE, Partition(), Direction.BOTH)) == [f"-s {ONE}/32 -j DROP", f"-d {ONE}/32 -j DROP"]
    assert rules(Cut(ONE, Partition(), Direction.BOTH, [])) == []
    assert rules(Cut(ONE, Partition(), Direction.TO, [TWO, THREE])) == [
        f"-s {ONE}/32 -d {TWO}/32 -j DROP",
        f"-s {ONE}/32 -d {THREE}/32 -j DROP",
    ]


def test_who_is_dropped_never_waits() -> None:
    effects = [Delay(latency=timedelta(seconds=1)), Loss(percent=1), Reset(), Partition()]
    found = rules(*(Cut(ONE, effect, Direction.TO) for effect in effects))
    assert [rule.split("-j ")[1].split()[0] for rule in found] == ["DROP", "REJECT", "DROP", "NFQUEUE"]
    assert "statistic" in found[2]
