"""Reading a Prometheus page into samples."""

import math

import pytest

from mesh.client import MeshError, parse_metrics

PAGE = r"""# HELP istio_requests_total requests
# TYPE istio_requests_total counter
istio_requests_total{reporter="source",response_code="200",response_flags="-",destination_service="a b.c"} 41
istio_requests_total{reporter="source",response_code="503",response_flags="UO",destination_service=""} 2
istio_requests_total{reporter="destination",response_code="200",} 7 1700000000000

odd_label{path="C:\\dir",quote="say \"}, hi\" ,x=\"1",line="one\ntwo"} 1.5e-3
plain_total 3
limit{le="+Inf"} +Inf
unknown NaN
"""


def test_sums_what_matches() -> None:
    metrics = parse_metrics(PAGE)
    assert metrics.value("istio_requests_total") == 50
    assert metrics.value("istio_requests_total", reporter="source") == 43
    assert metrics.value("istio_requests_total", response_code="503", response_flags="UO") == 2
    assert metrics.value("istio_requests_total", response_code="404") == 0.0
    assert metrics.value("never_seen") == 0.0
    assert metrics.value("plain_total") == 3


def test_a_label_that_is_absent_equals_the_empty_string() -> None:
    metrics = parse_metrics(PAGE)
    assert metrics.value("istio_requests_total", destination_service="") == 9
    assert metrics.value("plain_total", reporter="") == 3
    assert metrics.value("plain_total", reporter="source") == 0


def test_a_label_may_be_called_name() -> None:
    assert parse_metrics('up{name="x",self="y"} 1').value("up", name="x", self="y") == 1


def test_label_values_are_unescaped_and_may_hold_what_separates() -> None:
    (sample,) = parse_metrics(PAGE).samples("odd_label")
    assert sample.labels == {"path": "C:\\dir", "quote": 'say "}, hi" ,x="1', "line": "one\ntwo"}
    assert sample.value == 0.0015


def test_special_values() -> None:
    metrics = parse_metrics(PAGE)
    assert metrics.value("limit", le="+Inf") == math.inf
    assert math.isnan(metrics.value("unknown"))


def test_names_are_listed_in_order() -> None:
    assert parse_metrics('b 1\na 2\nb{x="1"} 3').names() == ["a", "b"]


@pytest.mark.parametrize("line", ["no_value", "a{b=c} 1", 'a{b="c} 1', "a one", "9a 1", 'a{b="c"x="d"} 1', "a{,} 1"])
def test_a_line_that_is_no_sample_is_shown(line: str) -> None:
    with pytest.raises(MeshError, match="not a Prometheus sample"):
        parse_metrics(f"fine 1\n{line}\n")
