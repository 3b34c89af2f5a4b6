import json
import random
import re
from pathlib import Path

import pytest

from mesh.agent.bootstrap import bootstrap
from mesh.agent.grpc_bootstrap import grpc_bootstrap
from mesh.agent.schedule import Restarts, Retry, renewal_in_s
from mesh.agent.settings import Settings, SettingsError, read_settings
from mesh.agent.telemetry import own_workload

ENVIRON = {
    "POD_NAME": "web-1",
    "POD_NAMESPACE": "shop",
    "INSTANCE_IP": "127.90.1.1",
    "SERVICE_ACCOUNT": "web",
    "CA_ADDR": "127.90.0.1:15014",
    "DISCOVERY_ADDRESS": "127.90.0.1:15012",
    "ISTIO_META_WORKLOAD_NAME": "web-v1",
    "ISTIO_METAJSON_LABELS": '{"app": "web", "version": "v1"}',
}


def settings(**changes: str) -> Settings:
    return read_settings(["proxy", "sidecar"], ENVIRON | changes)


def test_the_environment_tells_the_identity_and_the_node() -> None:
    found = settings()
    assert found.identity == "spiffe://cluster.local/ns/shop/sa/web"
    assert found.node_id == "sidecar~127.90.1.1~web-1.shop~shop.svc.cluster.local"
    assert found.metadata["LABELS"] == {"app": "web", "version": "v1"}
    assert found.engine == "python"


@pytest.mark.parametrize(
    "name", ["POD_NAME", "POD_NAMESPACE", "INSTANCE_IP", "SERVICE_ACCOUNT", "CA_ADDR", "DISCOVERY_ADDRESS"]
)
def test_a_missing_variable_is_named(name: str) -> None:
    environ = {key: value for key, value in ENVIRON.items() if key != name}
    with pytest.raises(SettingsError, match=f"environment variable {name} is missing"):
        read_settings(["proxy", "sidecar"], environ)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ISTIO_META_ENGINE": "nginx"}, 'no engine "nginx"'),
        ({"ISTIO_METAJSON_LABELS": "{"}, "ISTIO_METAJSON_LABELS is not JSON"),
        ({"PROXY_CONCURRENCY": "many"}, 'PROXY_CONCURRENCY="many"'),
        ({"SECRET_TTL_SECONDS": "0"}, 'SECRET_TTL_SECONDS="0"'),
        ({"ISTIO_DELTA_XDS": "maybe"}, 'ISTIO_DELTA_XDS="maybe" is neither true nor false'),
    ],
)
def test_a_wrong_variable_is_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(**changes)


@pytest.mark.parametrize("arguments", [[], ["proxy"], ["proxy", "waypoint"], ["run", "sidecar"]])
def test_other_arguments_get_the_usage(arguments: list[str]) -> None:
    with pytest.raises(SettingsError, match=r"usage: python -m mesh\.agent"):
        read_settings(arguments, ENVIRON)


@pytest.mark.parametrize(("changes", "api_type"), [({}, "DELTA_GRPC"), ({"ISTIO_DELTA_XDS": "false"}, "GRPC")])
def test_the_proxy_asks_for_changes_unless_it_is_told_otherwise(changes: dict[str, str], api_type: str) -> None:
    document = bootstrap(settings(**changes))
    assert document["dynamic_resources"]["ads_config"]["api_type"] == api_type


def test_grpc_is_told_the_pods_files_and_that_it_is_grpc() -> None:
    document = grpc_bootstrap(settings(), Path("/state/pods/web-1"))
    json.dumps(document)
    (server,) = document["xds_servers"]
    assert server["server_uri"] == "127.90.0.1:15012"
    (credentials,) = server["channel_creds"]
    assert credentials["config"] == document["certificate_providers"]["default"]["config"]
    assert credentials["config"]["private_key_file"] == "/state/pods/web-1/secrets/key.pem"
    assert document["node"]["id"] == "sidecar~127.90.1.1~web-1.shop~shop.svc.cluster.local"
    assert document["node"]["metadata"]["GENERATOR"] == "grpc"


@pytest.mark.parametrize(("engine", "metrics_port"), [("python", 15000), ("envoy", 15020)])
def test_the_bootstrap_routes_metrics_to_whoever_has_them(engine: str, metrics_port: int) -> None:
    document = bootstrap(settings(ISTIO_META_ENGINE=engine))
    json.dumps(document)
    static = document["static_resources"]
    listener = next(item for item in static["listeners"] if item["name"] == "agent_15090")
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    wanted = manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"]
    cluster = next(item for item in static["clusters"] if item["name"] == wanted)
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"]["socket_address"] == {"address": "127.90.1.1", "port_value": metrics_port}


def test_the_node_says_what_the_control_plane_needs_to_know() -> None:
    node = bootstrap(settings(ISTIO_META_ENGINE="envoy"))["node"]
    assert node["metadata"]["ENGINE"] == "envoy"
    assert node["metadata"]["NAMESPACE"] == "shop"
    assert node["metadata"]["SERVICE_ACCOUNT"] == "web"
    assert node["metadata"]["WORKLOAD_NAME"] == "web-v1"


def test_a_certificate_is_renewed_near_its_half_life() -> None:
    rng = random.Random(1)
    assert all(45 <= renewal_in_s(100, rng) <= 55 for _ in range(200))
    assert renewal_in_s(-5, rng) == 0


def test_attempts_wait_longer_and_longer_until_one_succeeds() -> None:
    retry = Retry(random.Random(1))
    delays = [retry.failed() for _ in range(20)]
    assert delays[0] < 0.2
    assert 8 <= delays[-1] <= 12
    retry.succeeded()
    assert retry.failed() < 0.2


def test_a_proxy_that_keeps_crashing_is_given_up() -> None:
    restarts = Restarts()
    delays = [restarts.after(0.1) for _ in range(6)]
    assert delays[:3] == [0.1, 0.2, 0.4]
    assert delays[-1] is None


def test_a_proxy_that_ran_long_is_not() -> None:
    restarts = Restarts()
    assert None not in [restarts.after(life) for life in [0.1] * 5 + [60.0] + [0.1] * 5]


def test_the_pod_knows_its_own_half_of_the_labels() -> None:
    own = own_workload(settings())
    assert (own.workload, own.canonical_service, own.canonical_revision) == ("web-v1", "web", "v1")
    assert own.principal == "spiffe://cluster.local/ns/shop/sa/web"


def test_where_traffic_is_captured_the_proxys_own_bears_a_mark() -> None:
    document = bootstrap(settings(ISTIO_META_INTERCEPTION_MODE="REDIRECT"))
    (option,) = document["cluster_manager"]["upstream_bind_config"]["socket_options"]
    assert option == {"level": 1, "name": 36, "int_value": 1337, "state": "STATE_PREBIND"}
    assert "cluster_manager" not in bootstrap(settings())
    assert "cluster_manager" not in bootstrap(settings(ISTIO_META_INTERCEPTION_MODE="REDIRECT", PROXY_KNOWN_BY="uid"))
    with pytest.raises(SettingsError, match='PROXY_KNOWN_BY="colour" is none of mark, uid'):
        settings(PROXY_KNOWN_BY="colour")


def test_the_admin_pages_are_at_the_pods_address_unless_told_otherwise() -> None:
    def admin(**changes: str) -> str:
        return str(bootstrap(settings(**changes))["admin"]["address"]["socket_address"]["address"])

    assert admin() == ENVIRON["INSTANCE_IP"]
    assert admin(PROXY_ADMIN_ADDRESS="127.0.0.1") == "127.0.0.1"


def test_envoy_is_told_where_the_name_of_what_captured_traffic_counts_ends() -> None:
    captured = {"ISTIO_META_INTERCEPTION_MODE": "REDIRECT"}
    (tag,) = bootstrap(settings(ISTIO_META_ENGINE="envoy", **captured))["stats_config"]["stats_tags"]
    found = re.match(tag["regex"], "http.outbound_0.0.0.0_9080.fault.delays_injected")
    assert found is not None
    assert found[2] == "0.0.0.0_9080"
    # Envoy takes what its own tag found, `outbound_0.`, out of the name as well.
    assert found[1] == "_0.0.0.0_9080."
    assert "stats_config" not in bootstrap(settings(ISTIO_META_ENGINE="envoy"))
