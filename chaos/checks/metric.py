"""What the proxies counted while the phase lasted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from chaos.checks.base import POLL_S, Context, Judge, as_selector
from chaos.decode import Seconds
from chaos.verdict import Verdict, judge


@dataclass(frozen=True, slots=True)
class MetricIncrease:
    """How much a metric of the pods' proxies grew since the phase began, within bounds (inclusive).

    `labels` pick the samples to add up. A lower bound is waited for up to `within`; an upper bound is judged then.
    """

    name: str
    pods: dict[str, str]
    metric: str
    labels: dict[str, str] = field(default_factory=dict)
    at_least: int = 0
    at_most: int | None = None
    within: Seconds = Seconds(5.0)

    def __post_init__(self) -> None:
        if self.at_least == 0 and self.at_most is None:
            raise ValueError("atLeast or atMost is wanted: without a bound the check could not fail")

    def begin(self, context: Context) -> Judge:
        """The metric's value now is the baseline."""
        baseline = self._value(context)

        def measure() -> Verdict:
            deadline = time.monotonic() + self.within
            while (grown := self._value(context) - baseline) < self.at_least and time.monotonic() < deadline:
                time.sleep(POLL_S)
            return self._verdict(int(grown))

        return measure

    def _value(self, context: Context) -> float:
        return sum(context.client.metrics(pod).value(self.metric, **self.labels) for pod in context.pods(self.pods))

    def _verdict(self, grown: int) -> Verdict:
        bound = f"at least {self.at_least}" if self.at_most is None else f"{self.at_least} to {self.at_most}"
        if self.at_least == self.at_most:
            bound = f"exactly {self.at_least}"
        what = f"{self.metric}{{{as_selector(self.labels)}}} at {as_selector(self.pods)} grew by {grown}"
        high = self.at_most is not None and grown > self.at_most
        problems = [f"{what}, not {bound}"] if grown < self.at_least or high else []
        return judge(self.name, problems, what, {"increase": grown, "at_least": self.at_least, "at_most": self.at_most})
