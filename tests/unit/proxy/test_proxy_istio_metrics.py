"""Istio's metrics as a Telemetry changes them, and those of TCP connections."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from envoy.config.core.v3.base_pb2 import Node
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.json_format import ParseDict
from udpa.type.v1.typed_struct_pb2 import TypedStruct

from mesh.proxy.fields import Place
from mesh.proxy.filters import istio_stats
from mesh.proxy.filters.istio_metrics import LABELS, compile_metrics
from mesh.proxy.http1.parse import parse_request
from mesh.proxy.observe.stats import Stats
from mesh.proxy.resources import Refused

PLACE = Place("Listener", "l")
VALUES = tuple(f"of {label}" for label in LABELS)


def typed_struct(value: dict[str, Any]) -> Packed:
    packed = Packed()
    packed.Pack(ParseDict({"type_url": "stats.PluginConfig", "value": value}, TypedStruct()))
    return packed


def counted(config: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The labels of each HTTP metric that one request leaves."""
    stats = Stats()
    stream = SimpleNamespace(head=parse_request(b"GET /p?q HTTP/1.1\r\nHost: h\r\nX-A: a"), status=200)
    for metric in compile_metrics(config, stats, PLACE, tcp=False):
        extra = tuple(value(stream) for value in metric.extra)
        if metric.kind == "counter":
            metric.cell(VALUES, extra)[0] += 1
        else:
            metric.histogram(VALUES, extra).record(1)
    return {sample.name: dict(sample.tags) for sample in stats.snapshot()}


def test_all_metrics_have_all_labels_by_default() -> None:
    found = counted({})
    assert sorted(found) == [
        "istio_request_bytes",
        "istio_request_duration_milliseconds",
        "istio_requests_total",
        "istio_response_bytes",
    ]
    assert all(labels == dict(zip(LABELS, VALUES, strict=True)) for labels in found.values())


def test_a_metric_is_dropped_and_others_change() -> None:
    found = counted(
        {
            "metrics": [
                {"tags_to_remove": ["source_cluster"]},
                {"name": "request_bytes", "drop": True},
                {
                    "name": "requests_total",
                    "dimensions": {
                        "method": "request.method", "path": "request.url_path", "host": "request.host",
                        "zone": "'here'", "header": "request.headers['x-a']", "none": 'request.headers["x-b"]',
                        "reporter": "'me'",
                    },
                    "tags_to_remove": ["response_flags"],
                },
            ]
        }
    )  # fmt: skip
    assert "istio_request_bytes" not in found
    plain = dict(zip(LABELS, VALUES, strict=True))
    del plain["source_cluster"]
    assert found["istio_response_bytes"] == plain
    added = {
        "method": "GET", "path": "/p", "host": "h", "zone": "here", "header": "a", "none": "unknown", "reporter": "me"
    }  # fmt: skip
    del plain["response_flags"]
    assert found["istio_requests_total"] == plain | added


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"definitions": []}, "definitions: not supported"),
        ({"metrics": [{"match": "true"}]}, "metrics\\[0\\].match: not supported"),
        ({"metrics": [{"name": "my_total"}]}, "my_total is none of Istio's standard metrics"),
        ({"metrics": [{"dimensions": {"a": "request.size + 1"}}]}, "expression 'request.size \\+ 1' is not supported"),
    ],
)
def test_what_is_not_understood_is_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        compile_metrics(config, Stats(), PLACE, tcp=False)


def test_a_tcp_connection_is_counted_at_its_beginning_and_end() -> None:
    stats = Stats()
    opened, closed = istio_stats.tcp_steps(typed_struct({}), Node(id="n"), False, stats, PLACE)
    endpoint = SimpleNamespace(workload="db-v1;default;db;v1;Kubernetes")
    connection: Any = SimpleNamespace(
        host=SimpleNamespace(endpoint=endpoint, tls=None), peer=None, upstream_peer=None, cluster_name="db", flags="",
        bytes_received=10, bytes_sent=20, upstream_local_address="127.0.0.1:1", cluster=None,
        worker=SimpleNamespace(runtime=SimpleNamespace(clusters={})),
    )  # fmt: skip

    def values() -> dict[str, Any]:
        return {sample.name: sample.value for sample in stats.snapshot()}

    opened(connection)
    assert values() == {"istio_tcp_connections_opened_total": 1}
    closed(connection)
    assert values() == {
        "istio_tcp_connections_opened_total": 1,
        "istio_tcp_connections_closed_total": 1,
        "istio_tcp_received_bytes_total": 10,
        "istio_tcp_sent_bytes_total": 20,
    }
    labels = dict(stats.snapshot()[0].tags)
    assert (labels["request_protocol"], labels["destination_workload"]) == ("tcp", "db-v1")
    assert "response_code" not in labels


def test_a_tcp_connection_that_outlives_its_cluster_ends_under_the_labels_of_its_beginning() -> None:
    stats = Stats()
    opened, closed = istio_stats.tcp_steps(typed_struct({}), Node(id="n"), False, stats, PLACE)

    def cluster(service: str) -> Any:
        config = SimpleNamespace(services=[(f"{service}.default.svc", service, "default")])
        return SimpleNamespace(config=config, name="db")

    runtime = SimpleNamespace(clusters={"db": cluster("db")})
    connection: Any = SimpleNamespace(
        host=None, peer=None, upstream_peer=None, cluster_name="db", cluster=runtime.clusters["db"], flags="",
        bytes_received=1, bytes_sent=2, upstream_local_address="127.0.0.1:1", worker=SimpleNamespace(runtime=runtime),
    )  # fmt: skip
    opened(connection)
    for clusters in ({}, {"db": cluster("another")}):
        runtime.clusters = clusters
        closed(connection)
    services = {(sample.name, dict(sample.tags)["destination_service"], sample.value) for sample in stats.snapshot()}
    assert services == {
        ("istio_tcp_connections_opened_total", "db.default.svc", 1),
        ("istio_tcp_connections_closed_total", "db.default.svc", 2),
        ("istio_tcp_received_bytes_total", "db.default.svc", 2),
        ("istio_tcp_sent_bytes_total", "db.default.svc", 4),
    }


def test_labels_that_clients_make_up_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(istio_stats, "_MAX_KNOWN", 2)
    metrics = compile_metrics({"metrics": [{"dimensions": {"a": "request.path"}}]}, Stats(), PLACE, tcp=False)
    extra = istio_stats._Extra(metrics)
    seen = [
        extra.of(SimpleNamespace(head=parse_request(b"GET /%d HTTP/1.1\r\nHost: h" % number)))[0][0]
        for number in (1, 2, 3, 1)
    ]
    assert seen == ["/1", "/2", "unknown", "/1"]
