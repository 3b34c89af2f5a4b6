"""Canary splits: predicted request by request, and sampled with an exact test."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chaos import keyed, stats
from chaos.checks.base import Context, Judge
from chaos.decode import Seconds
from chaos.traffic import Request, Sample, Sender
from chaos.verdict import Outcome, Shares, Verdict, judge

CONCURRENCY = 6
SHOWN = 3
MOST_REQUESTS = 1_000_000


@dataclass(frozen=True, slots=True)
class PredictedSplit:
    """Every request's version equals the one predicted from the header value that it carries.

    `weights` are the configured ones, in their declared order; `header` is the one that the VirtualService's annotation
    `meshdrill.dev/split-header` names; `observe` is the field of the JSON response that tells the version.
    """

    path: str
    weights: dict[str, int]
    observe: str = "version"
    header: str = "x-b3-traceid"
    requests: int = 300
    within: Seconds = Seconds(60.0)

    def __post_init__(self) -> None:
        _check_weights(self.weights)
        _check_requests(self.requests)

    @property
    def title(self) -> str:
        """With the weights."""
        return f"predicted split {_weights(self.weights)}"

    def begin(self, context: Context) -> Judge:
        """No baseline."""
        return functools.partial(self._judge, context)

    def _judge(self, context: Context) -> Verdict:
        values = list(keyed.values(context.seed, self.requests))
        wanted = [Request(self.path, {self.header: value}) for value in values]
        samples = _send(context, wanted, self.within)
        fates = [
            (value, keyed.predict(value, self.weights), sample) for value, sample in zip(values, samples, strict=True)
        ]
        wrong = [
            f"{self.header} {value}: predicted {predicted}, {_seen(sample, self.observe)}"
            for value, predicted, sample in fates
            if sample.status != 200 or sample.field(self.observe) != predicted
        ]
        counts = Counter(predicted for _, predicted, _ in fates)
        problems = (
            [f"{len(wrong)} of {len(samples)} requests went elsewhere: " + "; ".join(wrong[:SHOWN])] if wrong else []
        )
        held = f"all {len(samples)} requests answered by the predicted version ({_counts(counts)})"
        evidence = {"requests": len(samples), "wrong": len(wrong), "seed": context.seed, "predicted": dict(counts)}
        return judge(self.title, problems, held, evidence)


@dataclass(frozen=True, slots=True)
class Detect:
    """The deviation that a sample must be able to see: `version` getting `share` percent instead of its own."""

    version: str
    share: float


@dataclass(frozen=True, slots=True)
class SampledSplit:
    """The observed shares agree with the weights, by an exact binomial test at level `alpha` (over all versions).

    As many requests are sent as it takes to miss the deviation `detect` with a probability of at most `miss`;
    `requests` sets the number instead, and the verdict is "too few" where it lacks that power.
    """

    path: str
    weights: dict[str, int]
    detect: Detect
    observe: str = "version"
    alpha: float = 1e-6
    miss: float = 1e-6
    requests: int | None = None
    within: Seconds = Seconds(60.0)

    def __post_init__(self) -> None:
        _check_weights(self.weights)
        if self.requests is not None:
            _check_requests(self.requests)
        if self.detect.version not in self.weights:
            raise ValueError(f"detect: no weight is given for {self.detect.version!r}")
        if not 0 < self.alpha < 1 or not 0 < self.miss < 1 or not 0 <= self.detect.share <= 100:
            raise ValueError("alpha and miss lie between 0 and 1, detect.share between 0 and 100")
        if self.detect.share / 100 == self._share(self.detect.version):
            raise ValueError("detect: the share to detect is the configured one")

    @property
    def title(self) -> str:
        """With the weights."""
        return f"sampled split {_weights(self.weights)}"

    def begin(self, context: Context) -> Judge:
        """No baseline."""
        return functools.partial(self._judge, context)

    def _share(self, version: str) -> float:
        return self.weights[version] / sum(self.weights.values())

    def _judge(self, context: Context) -> Verdict:
        share, other = self._share(self.detect.version), self.detect.share / 100
        level = self.alpha / len(self.weights)
        needed = stats.requests_needed(share, other, level, self.miss)
        count = needed if self.requests is None else self.requests
        missed = stats.miss_probability(count, share, other, level)
        power = f"would miss {self.detect.version} at {self.detect.share:g} % with p = {missed:.1e}"
        if missed > self.miss:
            return Verdict(
                self.title,
                Outcome.TOO_FEW,
                f"{count} requests {power}; it takes {needed}",
                {"requests": count, "needed": needed},
            )
        samples = _send(context, [Request(self.path)] * count, self.within)
        return self._verdict(samples, level, power)

    def _verdict(self, samples: Sequence[Sample], level: float, power: str) -> Verdict:
        failed = [sample for sample in samples if sample.status != 200]
        seen = Counter(sample.field(self.observe) for sample in samples if sample.status == 200)
        count = len(samples)
        p_values = {version: stats.p_value(seen[version], count, self._share(version)) for version in self.weights}
        problems = [
            f"{version} got {seen[version]} of {count}, configured {self._share(version):.2%} (p = {p:.1e})"
            for version, p in p_values.items()
            if p <= level
        ]
        problems += [
            f"{number} answered by {version or 'nobody known'}"
            for version, number in seen.items()
            if version not in self.weights
        ]
        if failed:
            problems.append(f"{len(failed)} requests failed: {_seen(failed[0], self.observe)}")
        rows = [(v, self._share(v), seen[v] / count, stats.interval(seen[v], count, level)) for v in self.weights]
        held = (
            f"{_counts(seen)} of {count}; " + ", ".join(f"{v} p = {p:.2g}" for v, p in p_values.items()) + f"; {power}"
        )
        evidence = {"requests": count, "counts": dict(seen), "p_values": p_values, "alpha": self.alpha, "power": power}
        return judge(self.title, problems, held, evidence, Shares(self.title, rows))


def _send(context: Context, wanted: list[Request], within_s: float) -> list[Sample]:
    with Sender(context.gateway) as sender:
        return sender.send_all(wanted, concurrency=CONCURRENCY, within_s=within_s, progress=context.progress)


def _check_weights(weights: Mapping[str, int]) -> None:
    if len(weights) < 2 or min(weights.values()) < 0 or sum(weights.values()) == 0:
        raise ValueError("weights: at least two versions, none negative, not all zero")


def _check_requests(count: int) -> None:
    if not 1 <= count <= MOST_REQUESTS:
        raise ValueError(f"requests lies between 1 and {MOST_REQUESTS}")


def _seen(sample: Sample, observe: str) -> str:
    if sample.error:
        return sample.error
    if sample.status != 200:
        return f"status {sample.status}: {sample.body[:120]!r}"
    return f"{sample.field(observe) or f'no field {observe!r} in the body'} answered"


def _weights(weights: Mapping[str, int]) -> str:
    return " / ".join(f"{version} {weight}" for version, weight in weights.items())


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{version} {count}" for version, count in sorted(counts.items()))
