"""How a Deployment's pods change: which to create and which to stop. Pure.

Source: Kubernetes' Deployment strategies; of percentages maxSurge is rounded up and maxUnavailable down.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod of the Deployment that is not being stopped. `age` grows with time; its unit does not matter."""

    name: str
    template: str
    ready: bool
    age: float


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now; once it shows in the pods, the next step follows."""

    create: int
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Strategy:
    """`spec.strategy`, in pods or percent of the replicas. `recreate`: old pods end before a new one starts."""

    surge: int | str = "25%"
    unavailable: int | str = "25%"
    recreate: bool = False


class StrategyError(ValueError):
    """`spec.strategy` cannot be followed. The text names the field."""


def read_strategy(spec: Mapping[str, Any]) -> Strategy:
    """From a Deployment's spec. Raises StrategyError."""
    strategy = spec.get("strategy") or {}
    kind = strategy.get("type", "RollingUpdate")
    if kind not in ("RollingUpdate", "Recreate"):
        raise StrategyError(f'spec.strategy.type: "{kind}" is neither RollingUpdate nor Recreate')
    rolling = strategy.get("rollingUpdate") or {}
    result = Strategy(rolling.get("maxSurge", "25%"), rolling.get("maxUnavailable", "25%"), kind == "Recreate")
    for name, value in (("maxSurge", result.surge), ("maxUnavailable", result.unavailable)):
        if not re.fullmatch(r"\d+" if isinstance(value, int) else r"\d+%", str(value)):
            raise StrategyError(f'spec.strategy.rollingUpdate.{name}: "{value}" is neither a number nor a percentage')
    return result


def next_step(replicas: int, template: str, pods: Sequence[PodView], strategy: Strategy) -> Step:
    """New pods come up within the surge; an old one goes only when enough others are ready."""
    new = [pod for pod in pods if pod.template == template]
    old = [pod for pod in pods if pod.template != template]
    if strategy.recreate:
        return Step(0 if old else max(0, replicas - len(new)), (*_surplus(new, replicas), *(pod.name for pod in old)))
    surge = _share(strategy.surge, replicas, math.ceil)
    # Where neither leaves room to move, Kubernetes lets one pod be missing.
    unavailable = _share(strategy.unavailable, replicas, math.floor) or (0 if surge else 1)
    room = replicas + (surge if old else 0) - len(pods)
    create = max(0, min(replicas - len(new), room))
    return Step(create, (*_surplus(new, replicas), *_replaced(old, new, replicas - unavailable)))


def template_hash(template: Mapping[str, Any]) -> str:
    """The value of `pod-template-hash`: ten hex digits."""
    canonical = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def _surplus(new: Sequence[PodView], replicas: int) -> list[str]:
    """Too many of the right ones: those not ready go first, then the youngest."""
    by_worth = sorted(new, key=lambda pod: (pod.ready, pod.age))
    return [pod.name for pod in by_worth[: max(0, len(new) - replicas)]]


def _replaced(old: Sequence[PodView], new: Sequence[PodView], at_least: int) -> list[str]:
    """Old pods that serve nobody go at once, the others as far as availability allows, oldest first."""
    useless = [pod.name for pod in old if not pod.ready]
    ready_new = sum(pod.ready for pod in new)
    serving = sorted((pod for pod in old if pod.ready), key=lambda pod: -pod.age)
    spare = ready_new + len(serving) - at_least
    return [*useless, *(pod.name for pod in serving[: max(0, spare)])]


def _share(value: int | str, replicas: int, rounded: Callable[[float], int]) -> int:
    return value if isinstance(value, int) else rounded(replicas * int(value.rstrip("%")) / 100)
