"""Who called whom: Istio's metadata headers, metrics and access log."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from envoy.config.core.v3.base_pb2 import Node
from google.protobuf.struct_pb2 import Struct
from proxy_stage import Stage, play

from mesh.proxy.filters.metadata_exchange import decode, encode
from mesh.proxy.observe.stats import Sample
from mesh.proxy.observe.workload import NOBODY
from mesh.proxy.tls.connection import Peer

TO_APP = '{name: default, match: {prefix: "/"}, route: {cluster: app}}'
TYPED_STRUCT = "type.googleapis.com/udpa.type.v1.TypedStruct"
FILTERS = "".join(
    f'{{name: {name}, is_optional: true, typed_config: {{"@type": {TYPED_STRUCT}, type_url: {name}, value: {{}}}}}},'
    for name in ("istio.metadata_exchange", "istio.stats")
)
SERVICE = """metadata: {filter_metadata: {istio: {services: [
  {host: reviews.default.svc.cluster.local, name: reviews, namespace: default}]}}}"""
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


def node(workload: str) -> Node:
    made = Node(id=f"sidecar~{workload}")
    made.metadata.update(
        {
            "WORKLOAD_NAME": f"{workload}-v1",
            "NAMESPACE": "default",
            "SERVICE_ACCOUNT": f"bookinfo-{workload}",
            "CLUSTER_ID": "Kubernetes",
            "MESH_ID": "cluster.local",
            "LABELS": {"app": workload, "version": "v1"},
        }
    )
    return made


def requests(stage: Stage) -> list[Sample]:
    return [sample for sample in stage.stats.snapshot() if sample.name == "istio_requests_total"]


def test_the_caller_names_itself_and_counts_as_source() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP, {"app": SERVICE}, filters=FILTERS, node=node("productpage"))
        client = stage.client()
        client.comes(b"GET / HTTP/1.1\r\nHost: reviews\r\nx-envoy-peer-metadata: forged\r\n\r\n")
        app = await stage.upstream()
        sent = app.take()
        assert b"x-envoy-peer-metadata: " + encode(node("productpage")) + b"\r\n" in sent
        assert b"forged" not in sent
        app.comes(OK)
        (sample,) = requests(stage)
        labels = dict(sample.tags)
        assert sample.value == 1
        assert labels["reporter"] == "source"
        assert labels["source_workload"] == "productpage-v1"
        assert labels["destination_service"] == "reviews.default.svc.cluster.local"
        assert labels["destination_service_name"] == "reviews"
        assert labels["response_code"] == "200"
        assert labels["response_flags"] == "-"
        assert labels["connection_security_policy"] == "unknown"

    play(scene)


def test_what_outlives_its_cluster_is_counted_for_the_service_that_it_went_to() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP, {"app": SERVICE}, filters=FILTERS, node=node("productpage"))
        clusters = stage.worker.runtime.clusters
        client = stage.client()
        client.comes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        app = await stage.upstream()
        removed = clusters.pop("app")
        app.comes(OK)
        clusters["app"] = removed
        client.comes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        app.comes(OK)
        found = {dict(sample.tags)["destination_service_name"]: sample.value for sample in requests(stage)}
        assert found == {"reviews": 2}

    play(scene)


def test_the_called_learns_its_caller_and_counts_as_destination() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP, filters=FILTERS, node=node("reviews"), direction="INBOUND")
        client = stage.client(Peer(("spiffe://cluster.local/ns/default/sa/bookinfo-productpage",)))
        header = b"x-envoy-peer-metadata: " + encode(node("productpage"))
        client.comes(b"GET / HTTP/1.1\r\nHost: a\r\n" + header + b"\r\nx-envoy-peer-metadata-id: s\r\n\r\n")
        app = await stage.upstream()
        assert b"peer-metadata" not in app.take()
        app.comes(OK)
        (sample,) = requests(stage)
        labels = dict(sample.tags)
        assert labels["reporter"] == "destination"
        assert labels["source_workload"] == "productpage-v1"
        assert labels["source_app"] == "productpage"
        assert labels["source_principal"] == "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"
        assert labels["destination_workload"] == "reviews-v1"
        assert labels["destination_principal"] == "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
        assert labels["connection_security_policy"] == "mutual_tls"

    play(scene)


def test_an_overflow_is_counted_with_its_flag() -> None:
    async def scene() -> None:
        limits = "circuit_breakers: {thresholds: [{max_connections: 1, max_pending_requests: 0}]}"
        stage = Stage(TO_APP, {"app": limits}, filters=FILTERS, node=node("productpage"))
        stage.client().comes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        labels = dict(requests(stage)[0].tags)
        assert (labels["response_code"], labels["response_flags"]) == ("503", "UO")

    play(scene)


FAULT = """{name: fault, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault,
  abort: {http_status: 500, percentage: {numerator: 100}}}},"""


def test_an_injected_abort_is_counted_for_the_service_it_was_meant_for() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP, {"app": SERVICE}, filters=FILTERS + FAULT, node=node("productpage"))
        stage.client().comes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        labels = dict(requests(stage)[0].tags)
        assert (labels["destination_service_name"], labels["response_flags"]) == ("reviews", "FI")

    play(scene)


@pytest.mark.parametrize(
    "value",
    [b"", b"!", b"AAAA", base64.b64encode(b"\xff" * 9), b"A" * 20_000],
    ids=["empty", "no base64", "no struct", "junk", "long"],
)
def test_a_header_that_nobody_can_read_names_nobody(value: bytes) -> None:
    assert decode(value) is NOBODY or decode(value).name == "unknown"


def test_labels_of_another_shape_name_nobody() -> None:
    odd = Struct()
    odd.update({"WORKLOAD_NAME": {"a": 1}, "LABELS": "none"})
    assert decode(base64.b64encode(odd.SerializeToString())).namespace == "unknown"


ISTIO_LOG = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% "
    "%ROUTE_NAME%"
)


def logged(tmp_path: Path, form: dict[str, Any], request: bytes, response: bytes) -> str:
    """The log line of one exchange."""
    file = tmp_path / "log"
    config = {
        "name": "log",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(file),
            "log_format": form,
        },
    }

    async def scene() -> None:
        stage = Stage(TO_APP, hcm=f"access_log: [{json.dumps(config)}]")
        client = stage.client()
        client.comes(request)
        await stage.settle()
        if stage.upstreams:
            stage.upstreams[0].comes(response)
        await stage.worker.close()

    play(scene)
    return file.read_text()


def test_istios_default_line(tmp_path: Path) -> None:
    request = b"POST /x?y HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\nx-request-id: 1\r\nContent-Length: 3\r\n\r\nabc"
    line = logged(tmp_path, {"text_format_source": {"inline_string": ISTIO_LOG + "\n"}}, request, OK)
    start, _, rest = line.partition("] ")
    assert start.startswith("[20")
    fields = rest.split(" ")
    assert rest.startswith('"POST /x?y HTTP/1.1" 200 - via_upstream - "-" 3 2 ')
    assert rest.endswith('"-" "me" "1" "a" "10.1.0.1:80" app 10.0.0.2:2222 10.0.0.2:2222 10.0.0.1:1111 - default\n')
    assert fields[9].isdigit()


def test_json_keeps_numbers_and_nulls(tmp_path: Path) -> None:
    form = {
        "json_format": {"code": "%RESPONSE_CODE%", "agent": "%REQ(user-agent)%", "both": "%PROTOCOL% %REQ(:METHOD)%"}
    }
    line = logged(tmp_path, form, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", OK)
    assert json.loads(line) == {"code": 200, "agent": None, "both": "HTTP/1.1 GET"}


def test_a_refused_request_is_logged_too(tmp_path: Path) -> None:
    form = {"text_format_source": {"inline_string": "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n"}}
    assert logged(tmp_path, form, b"nonsense\r\n\r\n", b"") == "400 DPE http1.codec_error\n"


def test_a_grpc_call_is_counted_with_its_status() -> None:
    async def scene() -> None:
        stage = Stage(TO_APP, {"app": SERVICE}, filters=FILTERS, node=node("productpage"))
        client = stage.client()
        client.comes(b"POST / HTTP/1.1\r\nHost: reviews\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n")
        app = await stage.upstream()
        app.comes(b"HTTP/1.1 200 OK\r\ngrpc-status: 5\r\ncontent-length: 0\r\n\r\n")
        (sample,) = requests(stage)
        labels = dict(sample.tags)
        assert (labels["request_protocol"], labels["grpc_response_status"]) == ("grpc", "5")

    play(scene)
