"""What a balancer is, and how a retry gets another host than before."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Protocol


class Pickable(Protocol):
    """What a balancer needs to know of a host."""

    weight: int
    active: int  # requests in flight
    healthy_since: float | None  # monotonic seconds, None if it never was

    @property
    def hash_key(self) -> str:
        """What places the host in a ring or a Maglev table."""


class Balancer(Protocol):
    def pick(self, key: int | None = None, attempt: int = 0) -> Pickable | None:
        """The next host; None if there is none.

        `key` is the request's 64-bit hash (`hash_policy`), `attempt` counts from 0 the picks for one try: balancers
        that hash give another host for another attempt.
        """


Make = Callable[[Sequence[Pickable]], Balancer]


def pick_untried(
    balancer: Balancer, tried: Container[Pickable], attempts: int, key: int | None = None
) -> Pickable | None:
    """Pick again, at most `attempts` times in all, while the pick has been tried before (`previous_hosts`)."""
    host = balancer.pick(key)
    for attempt in range(1, attempts):
        if host is None or host not in tried:
            break
        host = balancer.pick(key, attempt)
    return host
