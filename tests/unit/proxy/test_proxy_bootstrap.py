"""What of an Envoy bootstrap the sidecar takes, and how it refuses the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.proxy.operations import bootstrap, options

ADS = """\
node: {id: n, cluster: c}
dynamic_resources:
  ads_config:
    api_type: GRPC
    transport_api_version: V3
    grpc_services: [{envoy_grpc: {cluster_name: xds}}]
  cds_config: {ads: {}, resource_api_version: V3}
  lds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters: [{name: xds, type: STATIC}]
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
"""


def load(folder: Path, text: str, *more: str) -> bootstrap.Bootstrap:
    path = folder / "b.yaml"
    path.write_text(text)
    return bootstrap.load(options.parse(["-c", str(path), *more]))


def test_a_bootstrap_for_ads_is_taken(tmp_path: Path) -> None:
    config = load(tmp_path, ADS)
    assert list(bootstrap.static_resources(config).clusters) == ["xds"]


def test_inline_yaml_is_merged_over_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, ADS, "--config-yaml", "node: {id: other}")
    assert (config.node.id, config.node.cluster) == ("other", "c")


def test_node_flags_fill_what_the_file_lacks(tmp_path: Path) -> None:
    config = load(
        tmp_path, ADS.replace("{id: n, cluster: c}", "{id: n}"), "--service-node", "x", "--service-cluster", "y"
    )
    assert (config.node.id, config.node.cluster) == ("n", "y")


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("node:", "flags_path: /x\nnode:", "b.yaml: flags_path: not supported by this sidecar"),
        ("api_type: GRPC", "api_type: REST", "dynamic_resources.ads_config.api_type: only GRPC"),
        ("api_type: GRPC", "api_type: GRPC\n    rate_limit_settings: {}", "ads_config.rate_limit_settings: not"),
        ("transport_api_version: V3", "transport_api_version: V2", "ads_config.transport_api_version: only V3"),
        ("name: xds,", "name: other,", "envoy_grpc.cluster_name: no static cluster is called 'xds'"),
        ("{envoy_grpc: {cluster_name: xds}}", "{google_grpc: {target_uri: x, stat_prefix: y}}",
         "grpc_services[0].google_grpc: not supported"),
        ("cds_config: {ads: {}", "cds_config: {self: {}", "dynamic_resources.cds_config.self: not supported"),
        ("{id: n, cluster: c}", "{id: n}", "node: 'id' and 'cluster' are required"),
        ("port_value: 0", "named_port: http", "admin.address.socket_address.port_value: required"),
        ("{socket_address: {address: 127.0.0.1, port_value: 0}}", "{pipe: {path: /x}}", "admin.address: only socket"),
        ("[{name: xds, type: STATIC}]", "[{name: xds}, {name: xds}]", "static_resources.clusters[1].name: duplicate"),
        ("[{name: xds, type: STATIC}]", "[{name: xds}, {}]", "static_resources.clusters[1].name: required"),
    ],
)  # fmt: skip
def test_what_is_left_out_is_refused_by_name(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    assert right in ADS
    with pytest.raises(bootstrap.BootstrapError) as refusal:
        load(tmp_path, ADS.replace(right, wrong, 1))
    assert said in str(refusal.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(bootstrap.BootstrapError, match=r"cannot read the bootstrap .*nope\.yaml: No such file"):
        bootstrap.load(options.parse(["-c", str(tmp_path / "nope.yaml")]))


@pytest.mark.parametrize("arguments", [[], ["-c", "f", "--concurrency", "0"], ["-c", "f", "--drain-time-s", "nan"]])
def test_wrong_flags_end_with_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        options.parse(arguments)
    assert exit_.value.code == 2
