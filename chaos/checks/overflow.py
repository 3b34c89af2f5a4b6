"""A connection pool's limits: what fits is served, what is beyond is refused at once."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from chaos.checks.base import Context, Judge
from chaos.decode import Seconds
from chaos.errors import CannotMeasure
from chaos.traffic import Request, Sample, Sender
from chaos.verdict import Scatter, Verdict, judge
from chaos.waiting import wait_until
from mesh.client import Pod

ON_THE_WAY_S = 0.2


@dataclass(frozen=True, slots=True)
class Overflow:
    """Exactly so many requests fit: one on each connection, then the pending ones; `excess` more are refused at once.

    The requests go in one at a time, each only when the caller's proxy shows the former one in its place (Envoy's
    gauges `upstream_rq_active` and `upstream_rq_pending_active` of `cluster`), so the count does not depend on timing.
    The upstream must hold each request for longer than that takes; where it did not, nothing is said.
    """

    path: str
    caller: dict[str, str]
    cluster: str
    connections: int = 1
    pending: int = 1
    excess: int = 8
    within: Seconds = Seconds(5.0)

    def __post_init__(self) -> None:
        if self.connections < 1 or self.pending < 0 or not 1 <= self.excess <= 100:
            raise ValueError("connections is at least 1, pending at least 0, excess from 1 to 100")

    @property
    def title(self) -> str:
        """With the limits."""
        return f"overflow beyond {self.connections} connection(s) and {self.pending} pending"

    def begin(self, context: Context) -> Judge:
        """No baseline: the check counts its own requests."""
        return functools.partial(self._judge, context)

    def _judge(self, context: Context) -> Verdict:
        places = self.connections + self.pending
        with Sender(context.gateway) as sender, ThreadPoolExecutor(places + self.excess) as pool:
            fitting, problems = self._fill(context, sender, pool)
            context.progress(f"{len(fitting)} requests wait, {self.excess} more come")
            over = list(pool.map(sender.send, [Request(self.path)] * self.excess))
            return self._verdict([future.result() for future in fitting], over, problems)

    def _fill(
        self, context: Context, sender: Sender, pool: ThreadPoolExecutor
    ) -> tuple[list[Future[Sample]], list[str]]:
        """One request for each place; stops with a problem at the first one that does not get to its place."""
        pod = context.one_pod(self.caller)
        gauges = [("upstream_rq_active", count + 1) for count in range(self.connections)]
        gauges += [("upstream_rq_pending_active", count + 1) for count in range(self.pending)]
        fitting: list[Future[Sample]] = []
        for gauge, value in gauges:
            name = f"cluster.{self.cluster}.{gauge}"
            fitting.append(pool.submit(sender.send, Request(self.path)))
            if not wait_until(functools.partial(_is_at, context, pod, name, value), self.within):
                return fitting, [f"{name} of {pod.name} did not get to {value} within {self.within:g} s"]
        return fitting, []

    def _verdict(self, held: Sequence[Sample], over: Sequence[Sample], problems: list[str]) -> Verdict:
        fit, beyond = _ends(held), _ends(over)
        if fit != {"200": len(held)}:
            problems.append(f"the {len(held)} requests that fit ended as {dict(fit)}, not all 200")
        if beyond != {"503": self.excess}:
            if not problems:
                _require_still_full(held, over)
            problems.append(f"the {self.excess} requests beyond them ended as {dict(beyond)}, not all 503")
        text = f"{len(held)} requests fit and were served, {self.excess} beyond them were refused with 503"
        points = [(s.start, s.duration * 1000, f"status {s.status}") for s in (*held, *over)]
        return judge(
            self.title, problems, text, {"fit": dict(fit), "excess": dict(beyond)}, Scatter(self.title, points)
        )


def _is_at(context: Context, pod: Pod, name: str, value: int) -> bool:
    return context.stat(pod, name) == value


def _ends(samples: Sequence[Sample]) -> Counter[str]:
    return Counter(sample.error or str(sample.status) for sample in samples)


def _require_still_full(held: Sequence[Sample], over: Sequence[Sample]) -> None:
    """A place that fell free before the last request came in is no fault of the limits."""
    freed = min(sample.start + sample.duration for sample in held)
    last = max(sample.start for sample in over)
    if last + ON_THE_WAY_S > freed:
        raise CannotMeasure("the upstream let go of a request before all others had come: let it hold them for longer")
