"""The control plane's own Prometheus page, read back by the client's parser."""

from mesh.client import parse_metrics
from mesh.control.metrics import Family, LabelledCounter, render


def test_a_counter_counts_by_labels() -> None:
    counter = LabelledCounter("requests_total", "Requests.", ("method", "code"))
    counter.count("GET", "200")
    counter.count("GET", "200")
    counter.count("PUT", "409")
    metrics = parse_metrics(render([counter.family()]))
    assert metrics.value("requests_total", method="GET", code="200") == 2
    assert metrics.value("requests_total") == 3


def test_a_counter_without_labels_is_shown_from_the_start() -> None:
    counter = LabelledCounter("refused_total", "Refused.")
    assert render([counter.family()]).splitlines() == [
        "# HELP refused_total Refused.",
        "# TYPE refused_total counter",
        "refused_total 0",
    ]
    counter.count()
    assert "refused_total 1" in render([counter.family()])


def test_odd_label_values_survive() -> None:
    odd = 'a"b\\c\nd'
    page = render([Family("odd", "Odd.", "gauge", {(("value", odd),): 1.5})])
    assert parse_metrics(page).value("odd", value=odd) == 1.5
