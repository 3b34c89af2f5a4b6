"""Samples in Envoy's three forms."""

from __future__ import annotations

import json

import pytest

from mesh.proxy.observe import exposition
from mesh.proxy.observe.downstream_counters import HttpStats
from mesh.proxy.observe.stats import Histogram, Sample, Stats
from mesh.proxy.observe.upstream_counters import ClusterStats

NAME = "outbound|9080||reviews.default.svc.cluster.local"


@pytest.fixture
def stats() -> Stats:
    made = Stats()
    cluster = made.group(ClusterStats, f"cluster.{NAME}", (("envoy.cluster_name", NAME),))
    cluster.upstream_rq_total = 3
    cluster.codes.count(200)
    cluster.codes.count(200)
    cluster.codes.count(503)
    cluster.upstream_rq_time.record(3)
    http = made.group(HttpStats, "http.in", (("envoy.http_conn_manager_prefix", "in"),))
    http.codes.count(200)
    made.labelled("istio_requests_total", "counter", ("reporter", "response_code")).counter(("source", "200"))[0] += 5
    return made


def lines(stats: Stats, start: str) -> list[str]:
    return [line for line in exposition.prometheus(stats.snapshot()).splitlines() if line.startswith(start)]


def test_text_is_sorted_with_histograms_last(stats: Stats) -> None:
    text = exposition.text(stats.snapshot())
    assert f"cluster.{NAME}.upstream_rq_total: 3\n" in text
    assert f"cluster.{NAME}.upstream_rq_5xx: 1\n" in text
    assert "istio_requests_total" not in text
    numbers = [line for line in text.splitlines() if "P0(" not in line and "No recorded" not in line]
    assert numbers == sorted(numbers)
    assert text.splitlines()[: len(numbers)] == numbers
    assert f"cluster.{NAME}.upstream_cx_connect_ms: No recorded values\n" in text


def test_prometheus_extracts_cluster_and_response_code(stats: Stats) -> None:
    tag = f'envoy_cluster_name="{NAME}"'
    assert lines(stats, "envoy_cluster_upstream_rq_total") == [f"envoy_cluster_upstream_rq_total{{{tag}}} 3"]
    assert lines(stats, "envoy_cluster_upstream_rq_xx{") == [
        f'envoy_cluster_upstream_rq_xx{{envoy_response_code_class="2",{tag}}} 2',
        f'envoy_cluster_upstream_rq_xx{{envoy_response_code_class="5",{tag}}} 1',
    ]
    assert lines(stats, "envoy_cluster_upstream_rq{") == [
        f'envoy_cluster_upstream_rq{{envoy_response_code="200",{tag}}} 2',
        f'envoy_cluster_upstream_rq{{envoy_response_code="503",{tag}}} 1',
    ]
    code = 'envoy_response_code_class="2",envoy_http_conn_manager_prefix="in"'
    assert f"envoy_http_downstream_rq_xx{{{code}}} 1" in lines(stats, "envoy_http_downstream_rq_xx")


def test_metrics_with_labels_of_their_own_keep_their_name(stats: Stats) -> None:
    assert lines(stats, "istio") == ['istio_requests_total{reporter="source",response_code="200"} 5']
    assert "# TYPE istio_requests_total counter\n" in exposition.prometheus(stats.snapshot())


def test_each_family_has_one_type_line(stats: Stats) -> None:
    types = [line.split()[2] for line in exposition.prometheus(stats.snapshot()).splitlines() if line.startswith("#")]
    assert len(types) == len(set(types))


def test_quantiles_make_a_summary_of_a_histogram(stats: Stats) -> None:
    tag = f'envoy_cluster_name="{NAME}"'
    found = exposition.prometheus(stats.snapshot(), with_quantiles=True).splitlines()
    mine = found[found.index("# TYPE envoy_cluster_upstream_rq_time summary") + 1 :][:12]
    assert mine[0] == f'envoy_cluster_upstream_rq_time{{{tag},quantile="0"}} 1'
    assert mine[7] == f'envoy_cluster_upstream_rq_time{{{tag},quantile="0.995"}} {1 + 4 * 0.995:.17g}'
    assert mine[10:] == [
        f"envoy_cluster_upstream_rq_time_sum{{{tag}}} 3",
        f"envoy_cluster_upstream_rq_time_count{{{tag}}} 1",
    ]
    assert f'envoy_cluster_upstream_cx_connect_ms{{{tag},quantile="0.5"}} nan' in found


def test_histogram_buckets_are_cumulative_and_end_in_infinity(stats: Stats) -> None:
    found = lines(stats, "envoy_cluster_upstream_rq_time_")
    tag = f'envoy_cluster_name="{NAME}"'
    assert f'envoy_cluster_upstream_rq_time_bucket{{{tag},le="1"}} 0' in found
    assert f'envoy_cluster_upstream_rq_time_bucket{{{tag},le="5"}} 1' in found
    assert f'envoy_cluster_upstream_rq_time_bucket{{{tag},le="0.5"}} 0' in found
    assert f'envoy_cluster_upstream_rq_time_bucket{{{tag},le="3600000"}} 1' in found
    assert found[-3:] == [
        f'envoy_cluster_upstream_rq_time_bucket{{{tag},le="+Inf"}} 1',
        f"envoy_cluster_upstream_rq_time_sum{{{tag}}} 3",
        f"envoy_cluster_upstream_rq_time_count{{{tag}}} 1",
    ]


def test_label_values_are_escaped() -> None:
    sample = Sample("m", "m", (("l", 'a"b\\c\nd'),), "counter", 1, True)
    assert 'm{l="a\\"b\\\\c\\nd"} 1\n' in exposition.prometheus([sample])


def test_json_has_numbers_then_quantiles(stats: Stats) -> None:
    tree = json.loads(exposition.to_json(stats.snapshot()))["stats"]
    assert {"name": f"cluster.{NAME}.upstream_rq_total", "value": 3} in tree
    histograms = tree[-1]["histograms"]
    assert histograms["supported_quantiles"] == [0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100]
    by_name = {each["name"]: each["values"] for each in histograms["computed_quantiles"]}
    assert by_name[f"cluster.{NAME}.upstream_cx_connect_ms"][0] == {"cumulative": None, "interval": None}
    assert by_name[f"cluster.{NAME}.upstream_rq_time"][-1]["cumulative"] == 5


@pytest.mark.parametrize(
    ("recorded", "quantiles"),
    [([0.2], (0, 0.5)), ([2, 2, 2, 2], (1, 5)), ([1, 9999999], (0.5, 3600000))],
)
def test_quantiles_stay_inside_the_buckets_that_hold_them(
    recorded: list[float], quantiles: tuple[float, float]
) -> None:
    histogram = Histogram()
    for value in recorded:
        histogram.record(value)
    sample = Sample("h", "h", (), "histogram", histogram.value())
    values = json.loads(exposition.to_json([sample]))["stats"][0]["histograms"]["computed_quantiles"][0]["values"]
    assert (values[0]["cumulative"], values[-1]["cumulative"]) == quantiles


def test_selection_by_name_and_use(stats: Stats) -> None:
    def is_total(name: str) -> bool:
        return name.endswith("upstream_rq_total") or name.endswith("upstream_rq_timeout")

    names = [s.name for s in exposition.select(stats.snapshot(), used_only=True, matches=is_total)]
    assert names == [f"cluster.{NAME}.upstream_rq_total"]


def test_reset_counters_leaves_gauges(stats: Stats) -> None:
    cluster = stats.group(ClusterStats, f"cluster.{NAME}")
    cluster.upstream_cx_active = 2
    stats.reset_counters()
    text = exposition.text(stats.snapshot())
    assert f"cluster.{NAME}.upstream_rq_total: 0\n" in text
    assert f"cluster.{NAME}.upstream_cx_active: 2\n" in text
    assert lines(stats, "istio") == ['istio_requests_total{reporter="source",response_code="200"} 0']
