import json

import pytest

from mesh.client import parse_metrics
from mesh.telemetry.metrics import IstioMetrics
from mesh.telemetry.records import Workload, read_record

OWN = Workload("productpage-v1", "default", "productpage", "v1", "Kubernetes", "productpage", "v1", "spiffe://p")
OVERFLOW = {
    "reporter": "source",
    "authority": "reviews:9080",
    "response_code": 503,
    "response_flags": "UO",
    "duration_ms": 0,
    "bytes_received": 0,
    "bytes_sent": 81,
    "cluster": "outbound|9080|v1|reviews.default.svc.cluster.local",
    "upstream_workload": None,
}
SUCCESS = OVERFLOW | {
    "response_code": 200,
    "response_flags": "-",
    "duration_ms": 12,
    "upstream_workload": "reviews-v1;default;reviews;v1;Kubernetes",
    "upstream_peer": "spiffe://r",
}


def labels(fields: dict[str, object]) -> dict[str, str]:
    return dict(read_record(json.dumps(fields), OWN).labels)


def test_a_call_out_names_both_workloads() -> None:
    found = labels(SUCCESS)
    assert (found["reporter"], found["source_workload"], found["destination_workload"]) == (
        "source",
        "productpage-v1",
        "reviews-v1",
    )
    assert found["destination_service"] == "reviews.default.svc.cluster.local"
    assert (found["destination_service_name"], found["destination_service_namespace"]) == ("reviews", "default")
    assert found["destination_principal"] == "spiffe://r"
    assert found["connection_security_policy"] == "unknown"


def test_a_call_that_met_an_open_breaker_has_its_flag_and_its_service() -> None:
    found = labels(OVERFLOW)
    assert (found["response_code"], found["response_flags"]) == ("503", "UO")
    assert found["destination_service_name"] == "reviews"
    assert found["destination_workload"] == "unknown"


@pytest.mark.parametrize(("peer", "policy"), [("spiffe://x", "mutual_tls"), (None, "none")])
def test_a_call_in_says_whether_it_was_encrypted(peer: str | None, policy: str) -> None:
    found = labels(SUCCESS | {"reporter": "destination", "cluster": "inbound|9080||", "downstream_peer": peer})
    assert found["connection_security_policy"] == policy
    assert found["destination_workload"] == "productpage-v1"
    assert found["destination_service"] == "reviews.default.svc.cluster.local"


def test_a_call_in_through_a_gateway_is_told_by_the_server_name() -> None:
    name = "outbound_.9080_._.productpage.default.svc.cluster.local"
    found = labels(
        {"reporter": "destination", "cluster": "inbound|9080||", "authority": "127.0.0.1:9080", "server_name": name}
    )
    assert found["destination_service"] == "productpage.default.svc.cluster.local"


def test_a_call_with_no_route_is_told_by_its_authority() -> None:
    found = labels({"reporter": "source", "authority": "example.com:80", "response_code": 404, "response_flags": "NR"})
    assert found["destination_service"] == "example.com"
    assert found["destination_service_namespace"] == "unknown"


@pytest.mark.parametrize("line", ["", "{", "[]", "plain text"])
def test_a_line_that_is_no_record_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_record(line, OWN)


def test_requests_add_up_in_a_text_that_prometheus_reads() -> None:
    metrics = IstioMetrics()
    for fields in (SUCCESS, SUCCESS, OVERFLOW):
        metrics.add(read_record(json.dumps(fields), OWN))
    found = parse_metrics(metrics.prometheus())
    assert found.value("istio_requests_total", response_flags="UO") == 1
    assert found.value("istio_requests_total", response_code="200", destination_workload="reviews-v1") == 2
    name = "istio_request_duration_milliseconds"
    assert found.value(f"{name}_count", response_code="200") == 2
    assert found.value(f"{name}_sum", response_code="200") == 24
    assert found.value(f"{name}_bucket", response_code="200", le="10") == 0
    assert found.value(f"{name}_bucket", response_code="200", le="25") == 2
    assert found.value(f"{name}_bucket", response_code="200", le="+Inf") == 2


def test_connections_are_counted_beside_requests_with_tcps_own_labels() -> None:
    metrics = IstioMetrics()
    cluster = "outbound|3306||mysqldb.default.svc.cluster.local"
    connection = SUCCESS | {"request_protocol": "tcp", "response_code": 0, "cluster": cluster, "bytes_received": 5e9}
    for fields in (connection, SUCCESS, connection):
        metrics.add(read_record(json.dumps(fields), OWN))
    found = parse_metrics(metrics.prometheus())
    assert found.value("istio_requests_total") == 1
    for name, value in (("connections_opened", 2), ("connections_closed", 2), ("received_bytes", 1e10)):
        assert found.value(f"istio_tcp_{name}_total", destination_service_name="mysqldb", reporter="source") == value
    (sent,) = found.samples("istio_tcp_sent_bytes_total")
    assert (sent.value, sent.labels["request_protocol"]) == (162, "tcp")
    assert not {"response_code", "grpc_response_status"} & sent.labels.keys()


def test_a_label_with_odd_characters_survives() -> None:
    metrics = IstioMetrics()
    metrics.add(read_record(json.dumps({"reporter": "source", "authority": 'a"b\\c\nd'}), OWN))
    assert (
        parse_metrics(metrics.prometheus())
        .samples("istio_requests_total")[0]
        .labels["destination_service"]
        .startswith('a"b\\c\nd')
    )
