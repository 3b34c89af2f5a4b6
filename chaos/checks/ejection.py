"""Outlier detection: a failing pod is ejected, traffic goes around it, and it returns on trial."""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from chaos.breaker import Breaker, Sight, State, problems
from chaos.checks.base import Context, Judge
from chaos.decode import Seconds
from chaos.errors import CannotMeasure
from chaos.traffic import Request, Sample, Sender
from chaos.verdict import Scatter, Verdict, judge
from mesh.client import Pod

PACE_S = 0.02


@dataclass
class _History:
    """What the check saw: each request with the state it was answered in, and the epoch time of each ejection."""

    breaker: Breaker
    samples: list[tuple[Sample, State]] = field(default_factory=list)
    bands: list[tuple[float, float, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ejection:
    """The breaker around a pod goes through exactly the `states`, with exactly `failures` failed requests.

    The `faulty` pod answers its first `failures` requests with an error; one caller sends one request after the other.
    Closed: the pod takes traffic. Open: the caller's proxy shows it as ejected (`failed_outlier_check`) and it gets
    none. Half-open: it is back on trial; a success closes the breaker, failures open it again. Each ejection must last
    at least `baseEjection` times Envoy's multiplier, which takes the detector's `interval` to know. The first request
    waits until `settle` after the hosts last changed, and that long after an ejection requests may still reach the pod,
    as Envoy merges changes of hosts for a second.
    """

    path: str
    caller: dict[str, str]
    faulty: dict[str, str]
    cluster: str
    failures: int
    states: tuple[State, ...]
    base_ejection: Seconds
    interval: Seconds = Seconds(10.0)
    settle: Seconds = Seconds(1.0)
    within: Seconds = Seconds(30.0)

    def __post_init__(self) -> None:
        if self.states[:1] != ("closed",) or "open" not in self.states:
            raise ValueError("states begin with closed, and open is among them")
        if self.base_ejection <= 0 or self.interval <= 0:
            raise ValueError("baseEjection and interval are more than 0 s")

    @property
    def title(self) -> str:
        """With the pod's labels."""
        return f"outlier ejection of {', '.join(self.faulty.values())}"

    def begin(self, context: Context) -> Judge:
        """No baseline: the check follows the breaker from its first request."""
        return functools.partial(self._judge, context, time.monotonic() + self.settle)

    def _judge(self, context: Context, settled: float) -> Verdict:
        time.sleep(max(0.0, settled - time.monotonic()))
        caller, faulty = context.one_pod(self.caller), context.one_pod(self.faulty)
        history = _History(Breaker(self.base_ejection, self.interval, self.settle))
        for sample, began in self._samples(context, history.breaker):
            ejected = self._is_ejected(context, caller, faulty)
            hit = sample.served_by == faulty.name
            sight = Sight(began, time.monotonic(), hit, sample.status != 200, ejected)
            self._note(history, sample, sight)
        return self._verdict(history, faulty)

    def _samples(self, context: Context, breaker: Breaker) -> Iterator[tuple[Sample, float]]:
        deadline = time.monotonic() + self.within
        with Sender(context.gateway, timeout_s=self.within) as sender:
            while tuple(breaker.states) != self.states and time.monotonic() < deadline:
                began = time.monotonic()
                yield sender.send(Request(self.path)), began
                context.progress(" -> ".join(breaker.states))
                time.sleep(PACE_S)

    def _is_ejected(self, context: Context, caller: Pod, faulty: Pod) -> bool:
        statuses = json.loads(context.client.admin(caller, "/clusters?format=json"))["cluster_statuses"]
        hosts = [
            host for cluster in statuses if cluster["name"] == self.cluster for host in cluster.get("host_statuses", ())
        ]
        for host in hosts:
            if host["address"]["socket_address"]["address"] == faulty.ip:
                return bool(host.get("health_status", {}).get("failed_outlier_check", False))
        known = ", ".join(sorted({cluster["name"] for cluster in statuses}))
        raise CannotMeasure(
            f"{caller.name} has no host {faulty.ip} ({faulty.name}) in a cluster {self.cluster}; its clusters: {known}"
        )

    def _note(self, history: _History, sample: Sample, sight: Sight) -> None:
        spans = len(history.breaker.spans)
        history.samples.append((sample, history.breaker.see(sight)))
        for span in history.breaker.spans[spans:]:
            now = time.time()
            history.bands.append((now - (span.end - span.begin), now, "ejected"))

    def _verdict(self, history: _History, faulty: Pod) -> Verdict:
        breaker = history.breaker
        found = problems(breaker, self.states)
        failed = Counter(
            sample.error or f"status {sample.status}" for sample, _ in history.samples if sample.status != 200
        )
        if failed.total() != self.failures:
            found.append(f"{failed.total()} requests failed, not {self.failures}: {dict(failed)}")
        around = sum(1 for sample, state in history.samples if state == "open" and sample.status == 200)
        if breaker.spans and not around:
            found.append("no request went around the ejected pod")
        lasted = [round(span.end - span.begin, 2) for span in breaker.spans]
        held = (
            f"{' -> '.join(breaker.states)}; {failed.total()} requests failed in all, {around} went around "
            f"{faulty.name}; ejected for {' and '.join(f'{seconds:.1f} s' for seconds in lasted)}"
        )
        evidence: dict[str, Any] = {
            "states": breaker.states,
            "failed": failed.total(),
            "requests": len(history.samples),
            "went_around": around,
            "ejected_s": lasted,
            "due_s": [span.due for span in breaker.spans],
        }
        return judge(self.title, found, held, evidence, self._picture(history, faulty))

    def _picture(self, history: _History, faulty: Pod) -> Scatter:
        points = []
        for sample, _ in history.samples:
            who = sample.served_by or "no pod named"
            series = who if sample.status == 200 else f"{who} ({sample.error or sample.status})"
            points.append((sample.start, sample.duration * 1000, series))
        return Scatter(f"requests around {faulty.name}", points, history.bands)
