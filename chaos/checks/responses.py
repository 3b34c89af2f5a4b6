"""What a user sees: status, words, and how long it took."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from chaos.checks.base import Context, Judge
from chaos.decode import Seconds
from chaos.traffic import Request, Sample, Sender
from chaos.verdict import Scatter, Verdict, judge


@dataclass(frozen=True, slots=True)
class Login:
    """A form to post first; its session's cookies go with the requests."""

    path: str
    form: dict[str, str]


@dataclass(frozen=True, slots=True)
class Expect:
    """What each response must be. The time bounds are on the whole response."""

    status: int = 200
    contains: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    at_least: Seconds = Seconds(0.0)
    at_most: Seconds = Seconds(30.0)

    def __post_init__(self) -> None:
        if self.at_most <= self.at_least:
            raise ValueError("atMost is not more than atLeast: no response could be as expected")

    def problems(self, sample: Sample) -> list[str]:
        """How a response differs; empty where it does not."""
        if sample.error:
            return [sample.error]
        found = [] if sample.status == self.status else [f"status {sample.status}, not {self.status}"]
        found += [f"lacks {text!r}" for text in self.contains if text not in sample.body]
        found += [f"has {text!r}" for text in self.excludes if text in sample.body]
        if not self.at_least <= sample.duration <= self.at_most:
            found.append(f"took {sample.duration:.2f} s, not {self.at_least:g} to {self.at_most:g} s")
        return found


@dataclass(frozen=True, slots=True)
class Responses:
    """`requests` requests to a path, one after the other, as a named user or as anybody; each must be as expected.

    They must all be through `within` that time, else nothing is said of them.
    """

    name: str
    path: str
    expect: Expect = field(default_factory=Expect)
    requests: int = 1
    login: Login | None = None
    headers: dict[str, str] = field(default_factory=dict)
    within: Seconds = Seconds(60.0)

    def __post_init__(self) -> None:
        if not 1 <= self.requests <= 100_000:
            raise ValueError("requests lies between 1 and 100000")

    @property
    def title(self) -> str:
        """As the file names it."""
        return self.name

    def begin(self, context: Context) -> Judge:
        """No baseline."""
        return functools.partial(self._judge, context)

    def _judge(self, context: Context) -> Verdict:
        wanted = [Request(self.path, self.headers)] * self.requests
        with Sender(context.gateway, timeout_s=self.expect.at_most + 10) as sender:
            if self.login:
                sender.login(self.login.path, self.login.form)
            return self._verdict(sender.send_in_turn(wanted, self.within, context.progress))

    def _verdict(self, samples: Sequence[Sample]) -> Verdict:
        wrong = [problems for sample in samples if (problems := self.expect.problems(sample))]
        problems = [f"{len(wrong)} of {len(samples)} differ: {', '.join(wrong[0])}"] if wrong else []
        slowest = max(sample.duration for sample in samples)
        held = f"{len(samples)} as expected (status {self.expect.status}, slowest {slowest:.2f} s)"
        evidence = {
            "requests": len(samples),
            "statuses": dict(Counter(sample.status for sample in samples)),
            "slowest_s": round(slowest, 3),
        }
        points = [(sample.start, sample.duration * 1000, f"status {sample.status}") for sample in samples]
        pictures = [Scatter(self.name, points)] if len(points) > 1 else []
        return judge(self.name, problems, held, evidence, *pictures)
