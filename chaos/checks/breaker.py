"""Circuit breaking: the connection pool's overflow, and the three states of outlier detection."""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from chaos.checks.base import POLL_S, Context, Judge, wait_until
from chaos.decode import Seconds
from chaos.traffic import Request, Sample, Sender
from chaos.verdict import Scatter, Verdict, judge
from mesh.client import Pod


@dataclass(frozen=True, slots=True)
class Overflow:
    """Exactly so many requests fit: one on each connection, then the pending ones; `excess` more are refused at once.

    The requests go in one at a time, each only when the caller's proxy shows the former one in its place (Envoy's
    gauges `upstream_rq_active` and `upstream_rq_pending_active` of `cluster`), so the count does not depend on timing.
    The upstream must hold each request for longer than that takes.
    """

    path: str
    caller: dict[str, str]
    cluster: str
    connections: int = 1
    pending: int = 1
    excess: int = 8
    within: Seconds = Seconds(5.0)

    def begin(self, context: Context) -> Judge:
        """No baseline: the check counts its own requests."""
        return functools.partial(self._judge, context)

    def _judge(self, context: Context) -> Verdict:
        [pod, *others] = context.pods(self.caller)
        active, pending = (
            f"cluster.{self.cluster}.{gauge}" for gauge in ("upstream_rq_active", "upstream_rq_pending_active")
        )
        gauges = [(active, n + 1) for n in range(self.connections)] + [(pending, n + 1) for n in range(self.pending)]
        with Sender(context.gateway) as sender, ThreadPoolExecutor(len(gauges) + self.excess) as pool:
            fitting: list[Future[Sample]] = []
            try:
                for gauge, value in gauges:
                    fitting.append(pool.submit(sender.send, Request(self.path)))
                    self._wait(context, pod, gauge, value)
                refused = [
                    future.result()
                    for future in [pool.submit(sender.send, Request(self.path)) for _ in range(self.excess)]
                ]
            finally:
                held = [future.result() for future in fitting]
        problems = [f"{len(others) + 1} pods call, so their limits add up: one is wanted"] if others else []
        return self._verdict(held, refused, problems)

    def _wait(self, context: Context, pod: Pod, gauge: str, value: int) -> None:
        wait_until(lambda: context.stat(pod, gauge) == value, self.within, f"{gauge} at {value} on {pod.name}")

    def _verdict(self, held: list[Sample], refused: list[Sample], problems: list[str]) -> Verdict:
        fit, over = Counter(sample.status for sample in held), Counter(sample.status for sample in refused)
        if fit != {200: len(held)}:
            problems.append(f"the {len(held)} requests that fit ended as {dict(fit)}, not all 200")
        if over != {503: self.excess}:
            problems.append(f"the {self.excess} requests beyond them ended as {dict(over)}, not all 503")
        text = f"{len(held)} requests fit and were served, {self.excess} beyond them were refused with 503"
        points = [(s.start, s.duration * 1000, f"status {s.status}") for s in (*held, *refused)]
        name = f"overflow beyond {self.connections} connection(s) and {self.pending} pending"
        return judge(name, problems, text, {"fit": dict(fit), "excess": dict(over)}, Scatter(name, points))


State = Literal["closed", "open", "half-open"]


@dataclass
class _Watch:
    """What the check has seen so far of one host's breaker."""

    states: list[State] = field(default_factory=lambda: ["closed"])
    samples: list[tuple[Sample, State]] = field(default_factory=list)
    opened: float = 0.0
    spans: list[tuple[float, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def enter(self, state: State, sample: Sample) -> None:
        """Notes a change of state, seen after `sample`."""
        if state == self.states[-1]:
            return
        if state == "open":
            # From before the request that tipped it: the span can only be measured too long, never too short.
            self.opened = sample.start
        elif self.states[-1] == "open":
            self.spans.append((self.opened, time.time()))
        self.states.append(state)


@dataclass(frozen=True, slots=True)
class Ejection:
    """A failing pod is ejected, traffic goes around it, and it comes back after its ejection time.

    The `faulty` pod answers exactly its first `failures` requests with an error; one caller sends one request after the
    other. Closed: the pod takes traffic. Open: the caller's proxy shows it as ejected (`failed_outlier_check`), and it
    gets none. Half-open: it is back on trial; a success closes the breaker, failures open it again, for longer. Checked
    are the states in order, the number of failed requests, and that the n-th ejection lasts n times `baseEjection` or
    longer.
    """

    path: str
    caller: dict[str, str]
    faulty: dict[str, str]
    cluster: str
    failures: int
    states: tuple[State, ...]
    base_ejection: Seconds
    within: Seconds = Seconds(30.0)

    def begin(self, context: Context) -> Judge:
        """No baseline: the check follows the breaker from its first request."""
        return functools.partial(self._judge, context)

    def _judge(self, context: Context) -> Verdict:
        [caller, *_] = context.pods(self.caller)
        [faulty, *_] = context.pods(self.faulty)
        watch = _Watch()
        for sample in self._samples(context, watch):
            self._follow(watch, sample, faulty, ejected=self._is_ejected(context, caller, faulty))
        return self._verdict(watch, faulty)

    def _samples(self, context: Context, watch: _Watch) -> Iterator[Sample]:
        deadline = time.monotonic() + self.within
        with Sender(context.gateway) as sender:
            while tuple(watch.states) != self.states and time.monotonic() < deadline:
                yield sender.send(Request(self.path))
                context.progress(" -> ".join(watch.states))
                time.sleep(POLL_S)

    def _is_ejected(self, context: Context, caller: Pod, faulty: Pod) -> bool:
        for cluster in json.loads(context.client.admin(caller, "/clusters?format=json"))["cluster_statuses"]:
            if cluster["name"] == self.cluster:
                hosts = {h["address"]["socket_address"]["address"]: h for h in cluster.get("host_statuses", [])}
                return bool(hosts.get(faulty.ip, {}).get("health_status", {}).get("failed_outlier_check", False))
        return False

    def _follow(self, watch: _Watch, sample: Sample, faulty: Pod, *, ejected: bool) -> None:
        hit = sample.status != 200 or sample.served_by == faulty.name
        if watch.states[-1] == "open" and (hit or not ejected):
            watch.enter("half-open", sample)
        watch.samples.append((sample, watch.states[-1]))
        if ejected:
            watch.enter("open", sample)
        elif watch.states[-1] == "half-open" and hit and sample.status == 200:
            watch.enter("closed", sample)

    def _verdict(self, watch: _Watch, faulty: Pod) -> Verdict:
        problems = []
        if tuple(watch.states) != self.states:
            problems.append(f"states seen: {' -> '.join(watch.states)}; expected: {' -> '.join(self.states)}")
        failed = [sample for sample, _ in watch.samples if sample.status != 200]
        if len(failed) != self.failures:
            problems.append(
                f"{len(failed)} requests failed, not {self.failures}: {Counter(s.status or s.error for s in failed)}"
            )
        for count, (start, end) in enumerate(watch.spans, 1):
            if end - start < self.base_ejection * count:
                problems.append(
                    f"ejection {count} lasted {end - start:.2f} s, less than {self.base_ejection * count:g} s"
                )
        around = sum(1 for sample, state in watch.samples if state == "open" and sample.status == 200)
        if watch.spans and not around:
            problems.append("no request went around the ejected pod")
        spans = ", ".join(f"{end - start:.1f} s" for start, end in watch.spans)
        held = (
            f"{' -> '.join(watch.states)}; {len(failed)} requests failed in all, {around} went around {faulty.name}; "
            f"ejected for {spans}"
        )
        evidence = {
            "states": watch.states,
            "failed": len(failed),
            "requests": len(watch.samples),
            "went_around": around,
        }
        return judge("outlier ejection", problems, held, evidence, _picture(watch, faulty))


def _picture(watch: _Watch, faulty: Pod) -> Scatter:
    points = []
    for sample, _ in watch.samples:
        who = sample.served_by or "no pod named"
        series = f"{who} ({sample.status})" if sample.status != 200 or who == faulty.name else f"{who}"
        points.append((sample.start, sample.duration * 1000, series))
    return Scatter(f"requests around {faulty.name}", points, [(*span, "ejected") for span in watch.spans])
