"""What of the control plane's cluster gRPC is told, and what it cannot honour."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from google.protobuf import json_format

from mesh.proxy import message_types
from mesh.proxy.operations.xds_client.channel import Dialer
from mesh.proxy.resources import Refused
from mesh.proxy.tls.secrets import SecretError

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
message_types.load(TLS)
message_types.load(HTTP)


def cluster(address: str = "127.64.0.1", **fields: Any) -> Cluster:
    endpoint = {"endpoint": {"address": {"socket_address": {"address": address, "port_value": 15012}}}}
    assignment = {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [endpoint]}]}
    tree = {"name": "xds", "type": "STATIC", "load_assignment": assignment, **fields}
    return json_format.ParseDict(tree, Cluster())


def tls(*sans: dict[str, Any], sni: str = "", **common: Any) -> dict[str, Any]:
    validation = {"default_validation_context": {"match_typed_subject_alt_names": list(sans)}}
    context = {"combined_validation_context": validation, **common}
    return {
        "transport_socket": {"name": "t", "typed_config": {"@type": TLS, "sni": sni, "common_tls_context": context}}
    }


def options(made: Cluster) -> dict[str, int | str]:
    return dict(Dialer.of(made).options)


def keepalive(**settings: str) -> dict[str, Any]:
    http = {"@type": f"type.googleapis.com/{HTTP}",
            "explicit_http_config": {"http2_protocol_options": {"connection_keepalive": settings}}}  # fmt: skip
    return {"typed_extension_protocol_options": {HTTP: http}}


@pytest.mark.parametrize(
    ("made", "target"),
    [
        (cluster(), "ipv4:127.64.0.1:15012"),
        (cluster("::1"), "ipv6:[::1]:15012"),
        (cluster("istiod.local", type="STRICT_DNS"), "dns:///istiod.local:15012"),
    ],
)
def test_the_target_is_dialled_as_the_cluster_says(made: Cluster, target: str) -> None:
    assert Dialer.of(made).targets == (target,)


def test_the_certificates_name_is_the_san_asked_for_or_the_sni() -> None:
    san = {"san_type": "DNS", "matcher": {"exact": "istiod.istio-system.svc"}}
    assert options(cluster(**tls(san, sni="other")))["grpc.ssl_target_name_override"] == "istiod.istio-system.svc"
    assert options(cluster(**tls(sni="other")))["grpc.ssl_target_name_override"] == "other"
    assert "grpc.ssl_target_name_override" not in options(cluster(**tls()))


def test_keepalive_is_the_clusters_or_what_every_grpc_server_bears() -> None:
    asked = options(cluster(**keepalive(interval="30s", timeout="10s")))
    assert (asked["grpc.keepalive_time_ms"], asked["grpc.keepalive_timeout_ms"]) == (30_000, 10_000)
    assert options(cluster())["grpc.keepalive_time_ms"] == 300_000


def test_an_attempt_to_connect_lasts_as_long_as_the_cluster_says() -> None:
    assert options(cluster(connect_timeout="1.5s"))["grpc.min_reconnect_backoff_ms"] == 1500
    assert options(cluster())["grpc.min_reconnect_backoff_ms"] == 5000


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (cluster(type="EDS"), "type: the control plane's cluster must be"),
        (cluster(load_assignment={"cluster_name": "xds"}), "load_assignment: needs an endpoint"),
        (cluster(""), "load_assignment: endpoints need socket_address"),
        (cluster(transport_socket_matches=[{"name": "m"}]), "transport_socket_matches: not supported"),
        (cluster(upstream_connection_options={"tcp_keepalive": {}}), "upstream_connection_options: not supported"),
        (cluster(**tls(tls_params={"cipher_suites": ["a"]})),
         "transport_socket.typed_config.common_tls_context.tls_params: not supported"),
        (cluster(**keepalive(interval="30s", connection_idle_interval="1s")),
         "http2_protocol_options.connection_keepalive.connection_idle_interval: not supported"),
        (cluster(**tls({"san_type": "URI", "matcher": {"exact": "spiffe://a"}})), "san_type DNS or IP_ADDRESS only"),
        (cluster(**tls({"san_type": "DNS", "matcher": {"prefix": "istiod"}})), "one exact name only"),
        (cluster(**tls({"san_type": "DNS", "matcher": {"exact": "a"}}, {"san_type": "DNS", "matcher": {"exact": "b"}})),
         "one exact name only"),
        (cluster(transport_socket={"name": "t", "typed_config": {"@type": f"type.googleapis.com/{HTTP}"}}),
         "only UpstreamTlsContext"),
    ],
)  # fmt: skip
def test_what_grpc_cannot_honour_is_refused_by_field(made: Cluster, said: str) -> None:
    with pytest.raises(Refused) as refusal:
        Dialer.of(made)
    assert said in str(refusal.value)
    assert str(refusal.value).startswith('Cluster "xds": ')


def test_reading_the_cluster_does_not_change_it() -> None:
    made = cluster()
    before = made.SerializeToString(deterministic=True)
    Dialer.of(made)
    assert made.SerializeToString(deterministic=True) == before


def test_a_secret_that_is_not_loaded_is_named() -> None:
    sds = {"name": "default", "sds_config": {"path_config_source": {"path": "x"}}}
    dialer = Dialer.of(cluster(**tls(tls_certificate_sds_secret_configs=[sds])))
    with pytest.raises(SecretError, match="'default' is not loaded"):
        dialer.channel({})
