"""PodFault: one effect, within its bounds, and nothing said that would not hold."""

from __future__ import annotations

import re
from datetime import timedelta

from mesh.api.meta import WorkloadSelector
from mesh.api.pod_fault import EFFECTS, TRAFFIC, Direction, PodFault, PodFaultSpec
from mesh.config.rules.checks import Place, check_duration, check_labels, is_dns_label

LONGEST = timedelta(hours=1)
SLOWEST, FASTEST = 1_000, 10_000_000_000
_PATTERN = re.compile(r"[-a-zA-Z0-9_.*?]{1,253}")


def check_pod_fault(resource: PodFault, at: Place) -> None:
    """`at` is the place of `spec`."""
    spec = resource.spec
    _check_selector(spec.selector, at / "selector")
    if not spec.kind:
        at.refuse(f"must have one of {', '.join(EFFECTS)}")
    elif spec.kind not in TRAFFIC:
        if spec.target is not None:
            (at / "target").refuse(f"{spec.kind} is not about traffic with others: leave it out")
        if spec.direction is not Direction.TO:
            (at / "direction").refuse(f"{spec.kind} is not about traffic with others: leave it out")
    if spec.target is not None:
        _check_selector(spec.target, at / "target")
    _check_effect(spec, at)


def _check_selector(selector: WorkloadSelector, at: Place) -> None:
    if not selector.match_labels:
        (at / "matchLabels").refuse("must select something")
    check_labels(selector.match_labels, at / "matchLabels")


def _check_effect(spec: PodFaultSpec, at: Place) -> None:
    if spec.delay is not None:
        check_duration(spec.delay.latency, at / "delay" / "latency")
        if spec.delay.latency > LONGEST:
            (at / "delay" / "latency").refuse("must be at most 1h")
        if not timedelta() <= spec.delay.jitter <= spec.delay.latency:
            (at / "delay" / "jitter").refuse("must not be more than latency, nor negative")
    if spec.loss is not None and not 0 < spec.loss.percent <= 100:
        (at / "loss" / "percent").refuse(f"must be more than 0 and at most 100, not {spec.loss.percent:g}")
    if spec.bandwidth is not None and not SLOWEST <= spec.bandwidth.rate <= FASTEST:
        (at / "bandwidth" / "rate").refuse(f"must be {SLOWEST} to {FASTEST} bits a second, not {spec.bandwidth.rate}")
    for index, pattern in enumerate(spec.dns.patterns if spec.dns is not None else ()):
        if not _PATTERN.fullmatch(pattern):
            (at / "dns" / "patterns" / index).refuse(f'"{pattern}" is not a name in which * and ? stand for anything')
    for name, of in (("pause", spec.pause), ("kill", spec.kill)):
        if of is not None and of.container and not is_dns_label(of.container):
            (at / name / "container").refuse(f'"{of.container}" is not the name of a container')
