"""How a Deployment's pods change: which to create and which to stop. Pure.

Source: Kubernetes' rolling update with its defaults, maxSurge 25 % rounded up and maxUnavailable 25 % rounded down.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
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


def next_step(replicas: int, template: str, pods: Sequence[PodView]) -> Step:
    """New pods come up within the surge; an old one goes only when enough others are ready."""
    new = [pod for pod in pods if pod.template == template]
    old = [pod for pod in pods if pod.template != template]
    room = replicas + (math.ceil(replicas / 4) if old else 0) - len(pods)
    create = max(0, min(replicas - len(new), room))
    return Step(create, (*_surplus(new, replicas), *_replaced(old, new, replicas)))


def template_hash(template: Mapping[str, Any]) -> str:
    """The value of `pod-template-hash`: ten hex digits."""
    canonical = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def _surplus(new: Sequence[PodView], replicas: int) -> list[str]:
    """Too many of the right ones: those not ready go first, then the youngest."""
    by_worth = sorted(new, key=lambda pod: (pod.ready, pod.age))
    return [pod.name for pod in by_worth[: max(0, len(new) - replicas)]]


def _replaced(old: Sequence[PodView], new: Sequence[PodView], replicas: int) -> list[str]:
    """Old pods that serve nobody go at once, the others as far as availability allows, oldest first."""
    useless = [pod.name for pod in old if not pod.ready]
    ready_new = sum(pod.ready for pod in new[:replicas])
    serving = sorted((pod for pod in old if pod.ready), key=lambda pod: -pod.age)
    spare = ready_new + len(serving) - (replicas - replicas // 4)
    return [*useless, *(pod.name for pod in serving[: max(0, spare)])]
