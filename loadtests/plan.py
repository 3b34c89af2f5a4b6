"""What a load run does: the contract between the launcher and the Locust process, carried in environment variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

ENV_EVENTS = "MESHDRILL_EVENTS"
ENV_EXPECT = "MESHDRILL_EXPECT_STATUSES"
ENV_REQUESTS = "MESHDRILL_REQUESTS"
ENV_PACE = "MESHDRILL_PACE_SECONDS"
ENV_LOGIN = "MESHDRILL_LOGIN"
ENV_SHAPE = "MESHDRILL_SHAPE"
ENV_LIFELINE = "MESHDRILL_LIFELINE"


class PlanError(ValueError):
    """A plan cannot be run; the message names the variable or field."""


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of request. `weight` is its share among the others; `name` groups it in statistics (default: path)."""

    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    weight: int = 1
    name: str = ""

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise PlanError(f"request path {self.path!r} must start with /")
        if self.weight < 1:
            raise PlanError(f"request {self.path}: weight {self.weight} must be at least 1")


@dataclass(frozen=True, slots=True)
class Stage:
    """From the end of the stage before, run `users` for `seconds`; a ramp goes there from the stage before evenly."""

    users: int
    seconds: float
    ramp: bool = False

    def __post_init__(self) -> None:
        if self.users < 0 or self.seconds <= 0:
            raise PlanError(f"stage of {self.users} users for {self.seconds} s: want users >= 0 and seconds > 0")


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What each user does. Without `requests` users browse Bookinfo; with `login` they sign in there first.

    `pace_seconds` is the time from one request's start to the next one's, 0 for as fast as answers come.
    `expect_statuses` are failures that are meant to happen: they are recorded, and are no failure of the run.
    """

    requests: tuple[Request, ...] = ()
    pace_seconds: float = 0.1
    expect_statuses: frozenset[int] = frozenset()
    login: str = ""
    stages: tuple[Stage, ...] = ()

    def to_environ(self) -> dict[str, str]:
        return {
            ENV_REQUESTS: json.dumps([asdict(request) for request in self.requests]),
            ENV_PACE: str(self.pace_seconds),
            ENV_EXPECT: ",".join(str(status) for status in sorted(self.expect_statuses)),
            ENV_LOGIN: self.login,
            ENV_SHAPE: json.dumps([asdict(stage) for stage in self.stages]),
        }

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> LoadPlan:
        """What `to_environ` made, or a person wrote; an unset or empty variable has its default. Raises PlanError."""
        return cls(
            requests=tuple(_build(Request, item, ENV_REQUESTS) for item in _json_list(environ, ENV_REQUESTS)),
            pace_seconds=_seconds(environ.get(ENV_PACE) or "0.1"),
            expect_statuses=_statuses(environ.get(ENV_EXPECT, "")),
            login=environ.get(ENV_LOGIN, ""),
            stages=tuple(_build(Stage, item, ENV_SHAPE) for item in _json_list(environ, ENV_SHAPE)),
        )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as error:
        raise PlanError(f"{ENV_PACE}={text!r} is not a number of seconds") from error
    if not 0 <= seconds < float("inf"):
        raise PlanError(f"{ENV_PACE}={text!r} must not be negative")
    return seconds


def _statuses(text: str) -> frozenset[int]:
    items = [item.strip() for item in text.split(",") if item.strip()]
    for item in items:
        if not (item.isdigit() and 100 <= int(item) <= 599):
            raise PlanError(f"{ENV_EXPECT}: {item!r} is not an HTTP status")
    return frozenset(int(item) for item in items)


def _json_list(environ: Mapping[str, str], name: str) -> list[Any]:
    try:
        value = json.loads(environ.get(name) or "[]")
    except json.JSONDecodeError as error:
        raise PlanError(f"{name} is not JSON: {error}") from error
    if not isinstance(value, list):
        raise PlanError(f"{name} must be a JSON list")
    return value


def _build(kind: type[Any], item: Any, variable: str) -> Any:
    try:
        return kind(**item)
    except (TypeError, PlanError) as error:
        raise PlanError(f"{variable}: {item!r}: {error}") from error
