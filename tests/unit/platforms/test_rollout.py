"""Rollouts read as stories: pods in, one step out, and the world after it until nothing is left to do."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.platforms.node.rollout import PodView, Step, Strategy, StrategyError, read_strategy, template_hash
from mesh.platforms.node.rollout import next_step as step_by

USUAL = Strategy()


def next_step(replicas: int, template: str, world: list[PodView], strategy: Strategy = USUAL) -> Step:
    return step_by(replicas, template, world, strategy)


def pods(template: str, *ready: bool) -> list[PodView]:
    return [PodView(f"{template}-{i}", template, is_ready, age=float(i)) for i, is_ready in enumerate(ready)]


def test_a_new_deployment_gets_all_its_pods_at_once() -> None:
    assert next_step(3, "b", []).create == 3


def test_a_settled_deployment_is_left_alone() -> None:
    step = next_step(2, "b", pods("b", True, False))
    assert (step.create, step.stop) == (0, ())


def test_a_replaced_pod_goes_only_when_the_new_one_is_ready() -> None:
    old = pods("a", True)
    first = next_step(1, "b", old)
    assert (first.create, first.stop) == (1, ())
    waiting = next_step(1, "b", [*old, *pods("b", False)])
    assert (waiting.create, waiting.stop) == (0, ())
    done = next_step(1, "b", [*old, *pods("b", True)])
    assert (done.create, done.stop) == (0, ("a-0",))


def test_an_old_pod_that_serves_nobody_goes_at_once() -> None:
    assert next_step(1, "b", pods("a", False)).stop == ("a-0",)


def test_scaling_down_spares_the_ready_and_the_old() -> None:
    assert next_step(1, "b", pods("b", False, True, True)).stop == ("b-0", "b-1")


def test_no_replicas_stops_everything() -> None:
    assert set(next_step(0, "b", [*pods("a", True), *pods("b", True)]).stop) == {"a-0", "b-0"}


def test_recreate_ends_all_old_pods_first() -> None:
    strategy = read_strategy({"strategy": {"type": "Recreate"}})
    first = next_step(2, "b", pods("a", True, True), strategy)
    assert (first.create, first.stop) == (0, ("a-0", "a-1"))
    assert next_step(2, "b", [], strategy).create == 2


@pytest.mark.parametrize(
    ("rolling", "create", "stop"),
    [
        ({"maxSurge": 0, "maxUnavailable": 1}, 0, 1),
        ({"maxSurge": 2, "maxUnavailable": 0}, 2, 0),
        ({"maxSurge": "100%", "maxUnavailable": "50%"}, 4, 2),
        ({"maxSurge": 0, "maxUnavailable": 0}, 0, 1),
    ],
)
def test_surge_and_unavailability_are_the_users(rolling: dict[str, object], create: int, stop: int) -> None:
    strategy = read_strategy({"strategy": {"rollingUpdate": rolling}})
    step = next_step(4, "b", pods("a", True, True, True, True), strategy)
    assert (step.create, len(step.stop)) == (create, stop)


@pytest.mark.parametrize(
    ("strategy", "field"),
    [
        ({"type": "BlueGreen"}, "spec.strategy.type"),
        ({"rollingUpdate": {"maxSurge": "some"}}, "maxSurge"),
        ({"rollingUpdate": {"maxUnavailable": -1}}, "maxUnavailable"),
    ],
)
def test_a_strategy_that_cannot_be_followed_is_named(strategy: dict[str, object], field: str) -> None:
    with pytest.raises(StrategyError, match=field):
        read_strategy({"strategy": strategy})


@given(replicas=st.integers(0, 9), old=st.lists(st.booleans(), max_size=9), new=st.lists(st.booleans(), max_size=9))
def test_a_rollout_ends_and_keeps_what_was_available(replicas: int, old: list[bool], new: list[bool]) -> None:
    world = [*pods("a", *old), *pods("b", *new)]
    names = itertools.count(100)
    for _ in range(60):
        step = next_step(replicas, "b", world)
        if not step.create and not step.stop and all(pod.ready for pod in world):
            break
        ready_before = sum(pod.ready for pod in world)
        stopped_ready = sum(pod.ready for pod in world if pod.name in step.stop)
        floor = replicas - replicas // 4
        assert stopped_ready == 0 or ready_before - stopped_ready >= min(ready_before, floor)
        world = [pod for pod in world if pod.name not in step.stop]
        world = [PodView(pod.name, pod.template, True, pod.age + 1) for pod in world]
        world += [PodView(f"b-{next(names)}", "b", False, 0.0) for _ in range(step.create)]
    assert [pod.template for pod in world] == ["b"] * replicas


@pytest.mark.parametrize("other", [{"spec": {"a": 2}}, {"spec": {"a": "1"}}, {}])
def test_the_hash_knows_a_changed_template(other: dict[str, object]) -> None:
    assert template_hash({"spec": {"a": 1}}) != template_hash(other)
    assert template_hash({"x": 1, "y": 2}) == template_hash({"y": 2, "x": 1})
