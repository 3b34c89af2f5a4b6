"""What the proxies counted while the phase lasted."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.checks.base import Context, Judge, as_selector
from chaos.decode import Seconds
from chaos.errors import CannotMeasure
from chaos.verdict import Verdict, judge
from chaos.waiting import wait_until
from mesh.client import Metrics, Pod


@dataclass(frozen=True, slots=True)
class MetricIncrease:
    """How much a metric of the pods' proxies grew since the phase began, within bounds (inclusive).

    `labels` pick the samples to add up. A lower bound is waited for up to `within`; an upper bound must hold from then
    on for the time `for`, as proxies count a request a little after its client has the answer.
    """

    name: str
    pods: dict[str, str]
    metric: str
    labels: dict[str, str] = field(default_factory=dict)
    at_least: int = 0
    at_most: int | None = None
    within: Seconds = Seconds(5.0)
    for_: Seconds = Seconds(0.3)

    def __post_init__(self) -> None:
        if self.at_least == 0 and self.at_most is None:
            raise ValueError("atLeast or atMost is wanted: without a bound the check could not fail")
        if self.at_most is not None and self.at_most < self.at_least:
            raise ValueError("atMost is less than atLeast: the check could not hold")

    @property
    def title(self) -> str:
        """As the file names it."""
        return self.name

    def begin(self, context: Context) -> Judge:
        """The metric's values now are the baseline, pod by pod."""
        baseline = {pod.uid: self._value(context.client.metrics(pod)) for pod in context.pods(self.pods)}
        return functools.partial(self._judge, context, baseline)

    def _judge(self, context: Context, baseline: Mapping[str, float]) -> Verdict:
        grown = 0

        def enough() -> bool:
            nonlocal grown
            grown = self._grown(context, baseline)
            return grown >= self.at_least

        if wait_until(enough, self.within) and self.at_most is not None:
            time.sleep(self.for_)
            grown = self._grown(context, baseline)
        return self._verdict(grown)

    def _grown(self, context: Context, baseline: Mapping[str, float]) -> int:
        """Growth over all pods; one that came since counts from zero, one that went took its count along."""
        pods = context.pods(self.pods)
        if gone := len(baseline.keys() - {pod.uid for pod in pods}):
            raise CannotMeasure(
                f"{gone} of the pods {as_selector(self.pods)} went away while {self.metric} was counted"
            )
        pages = {pod.uid: context.client.metrics(pod) for pod in pods}
        if self.at_least == 0:
            self._require_known(list(pages.values()))
        return sum(self._growth(pod, baseline, pages[pod.uid]) for pod in pods)

    def _growth(self, pod: Pod, baseline: Mapping[str, float], page: Metrics) -> int:
        growth = int(self._value(page) - baseline.get(pod.uid, 0.0))
        if growth < 0:
            raise CannotMeasure(f"{self.metric} of {pod.name} fell by {-growth}: its proxy started anew")
        return growth

    def _require_known(self, pages: list[Metrics]) -> None:
        """A sum of nothing is zero too, so a misspelt metric or label would satisfy any upper bound."""
        known = {label for page in pages for sample in page.samples(self.metric) for label in sample.labels}
        if not any(page.samples(self.metric) for page in pages):
            raise CannotMeasure(f"no proxy of {as_selector(self.pods)} has counted {self.metric} at all")
        if unknown := self.labels.keys() - known:
            raise CannotMeasure(f"{self.metric} has no label {', '.join(sorted(unknown))}")

    def _value(self, page: Metrics) -> float:
        return page.value(self.metric, **self.labels)

    def _verdict(self, grown: int) -> Verdict:
        bound = f"at least {self.at_least}" if self.at_most is None else f"{self.at_least} to {self.at_most}"
        if self.at_least == self.at_most:
            bound = f"exactly {self.at_least}"
        what = f"{self.metric}{{{as_selector(self.labels)}}} at {as_selector(self.pods)} grew by {grown}"
        high = self.at_most is not None and grown > self.at_most
        problems = [f"{what}, not {bound}"] if grown < self.at_least or high else []
        return judge(self.name, problems, what, {"increase": grown, "at_least": self.at_least, "at_most": self.at_most})
