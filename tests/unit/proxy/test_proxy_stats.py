"""Counters as they are scraped."""

from __future__ import annotations

import json
import pickle

from mesh.proxy.observe.stats import Histogram, Sample, Stats, merge
from mesh.proxy.observe.upstream_counters import ClusterStats
from mesh.proxy.upstream.breaker import Breaker, Thresholds

TAGS = (("envoy.cluster_name", "outbound|80||a.b"),)


def scraped(stats: Stats, name: str) -> Sample:
    return next(sample for sample in stats.snapshot() if sample.name == name)


def test_names_bases_and_tags() -> None:
    stats = Stats()
    group = stats.group(ClusterStats, "cluster.outbound|80||a.b", TAGS)
    group.upstream_rq_total = 3
    sample = scraped(stats, "cluster.outbound|80||a.b.upstream_rq_total")
    assert sample == Sample(sample.name, "cluster.upstream_rq_total", TAGS, "counter", 3)
    assert scraped(stats, "cluster.outbound|80||a.b.upstream_cx_active").kind == "gauge"
    assert stats.group(ClusterStats, "cluster.outbound|80||a.b", TAGS) is group


def test_codes_become_classes_and_completed() -> None:
    stats = Stats()
    group = stats.group(ClusterStats, "cluster.a")
    for status in (200, 200, 503):
        group.codes.count(status)
    values = {sample.name.removeprefix("cluster.a."): sample.value for sample in stats.snapshot()}
    assert values["upstream_rq_completed"] == 3
    assert values["upstream_rq_2xx"] == 2
    assert values["upstream_rq_503"] == 1


def test_circuit_gauges_follow_what_is_in_use() -> None:
    stats = Stats()
    group = stats.group(ClusterStats, "cluster.a")
    breaker = Breaker(Thresholds(max_connections=1, max_requests=2), group)
    group.upstream_cx_active, group.upstream_rq_active = 1, 1
    group.breakers = (breaker,)
    assert not breaker.may_connect(0)
    assert breaker.may_request()
    assert scraped(stats, "cluster.a.circuit_breakers.default.cx_open").value == 1
    assert scraped(stats, "cluster.a.circuit_breakers.default.rq_open").value == 0
    assert group.upstream_cx_overflow == 1


def test_buckets_are_inclusive_and_cumulative() -> None:
    histogram = Histogram((1, 5))
    for value in (0.5, 1, 2, 9):
        histogram.record(value)
    assert histogram.value() == (4, 12.5, ((1, 2), (5, 3)))


def test_snapshots_travel_and_add_up() -> None:
    workers = []
    for count in (1, 2):
        stats = Stats()
        group = stats.group(ClusterStats, "cluster.a")
        group.upstream_rq_total = count
        group.upstream_rq_time.record(3)
        stats.labelled("istio_requests_total", "counter", ("reporter",)).counter(("source",))[0] = count
        workers.append(stats.snapshot())
    assert pickle.loads(pickle.dumps(workers[0])) == workers[0]
    assert json.loads(json.dumps(workers[0]))[0][0] == workers[0][0].name
    merged = {sample.name: sample for sample in merge(workers)}
    assert merged["cluster.a.upstream_rq_total"].value == 3
    time = merged["cluster.a.upstream_rq_time"].value
    assert isinstance(time, tuple)
    assert time[:2] == (2, 6)
    assert merged["istio_requests_total"].tags == (("reporter", "source"),)
    assert merged["istio_requests_total"].value == 3


def test_a_dropped_group_is_gone() -> None:
    stats = Stats()
    stats.group(ClusterStats, "cluster.a")
    stats.drop("cluster.a")
    assert stats.snapshot() == []
