"""Locust's load shape for a plan's stages: steps, ramps, and any mix of them."""

from __future__ import annotations

import math

from locust import LoadTestShape

from .plan import Stage

# Locust asks for the number of users once a second and then starts them at this rate; above 100 it warns.
SPAWN_RATE = 100.0


def users_at(stages: tuple[Stage, ...], seconds: float) -> int | None:
    """How many users run at a time since the start; None when all stages are over."""
    began, before = 0.0, 0
    for stage in stages:
        share = (seconds - began) / stage.seconds
        if share < 1:
            return before + math.ceil((stage.users - before) * share) if stage.ramp else stage.users
        began, before = began + stage.seconds, stage.users
    return None


def shape_of(stages: tuple[Stage, ...]) -> type[LoadTestShape] | None:
    """The class that Locust finds in a locustfile; None leaves the load to `--users` and `--run-time`."""
    if not stages:
        return None

    class StagedShape(LoadTestShape):  # type: ignore[misc]
        abstract = False

        def tick(self) -> tuple[int, float] | None:
            users = users_at(stages, self.get_run_time())
            return None if users is None else (users, SPAWN_RATE)

    return StagedShape
