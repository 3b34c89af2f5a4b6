"""Text to messages: every mistake is named by file, line and field."""

from __future__ import annotations

import json

import pytest
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap

from mesh.proxy import decode

ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
GOOD = f"""\
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - name: in
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          http_filters:
          - name: router
            typed_config: {{"@type": {ROUTER}}}
  clusters:
  - name: app
    type: STATIC
"""


def parsed(text: str) -> Bootstrap:
    message = Bootstrap()
    decode.parse(text, message, "b.yaml")
    return message


def test_any_of_a_type_nobody_imported_before_is_resolved() -> None:
    chain = parsed(GOOD).static_resources.listeners[0].filter_chains[0]
    assert chain.filters[0].typed_config.type_url.endswith("HttpConnectionManager")


def test_a_message_survives_the_way_to_json_and_back() -> None:
    message = parsed(GOOD)
    assert parsed(json.dumps(decode.to_dict(message))) == message


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("stat_prefix: in", "stat_prefx: in", 'b.yaml:9: static_resources.listeners[0].filter_chains[0].filters[0].'
         'typed_config: Message type "envoy.extensions.filters.network.http_connection_manager.v3.'
         'HttpConnectionManager" has no field named "stat_prefx"'),
        ("type: STATIC", "type: STATICK", "b.yaml:16: static_resources.clusters[0].type: Invalid enum value STATICK"),
        ("type: STATIC", "typ: STATIC", 'b.yaml:15: static_resources.clusters[0]: Message type '
         '"envoy.config.cluster.v3.Cluster" has no field named "typ"'),
        ("name: app", "name: 1", "b.yaml:15: static_resources.clusters.name: expected string"),
        (ROUTER, ROUTER + "s", "Can not find message descriptor by type_url: " + ROUTER + "s"),
        (ROUTER, "type.googleapis.com/os.path", "Can not find message descriptor by type_url"),
        ("admin:", "admin: {}\nadmin:", "b.yaml:2: key 'admin' is repeated"),
        ("admin:", "\tadmin:", "b.yaml:1: "),
        ("    type: STATIC", "   type: STATIC", "b.yaml:16: "),
    ],
)  # fmt: skip
def test_mistakes_are_named_by_file_line_and_field(right: str, wrong: str, said: str) -> None:
    with pytest.raises(decode.DecodeError) as refusal:
        parsed(GOOD.replace(right, wrong, 1))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "[]", "text", "3"])
def test_only_a_mapping_is_a_message(text: str) -> None:
    with pytest.raises(decode.DecodeError, match=r"b\.yaml: expected a mapping"):
        parsed(text)


def test_repeated_json_keys_are_refused() -> None:
    with pytest.raises(decode.DecodeError, match="key 'admin' is repeated"):
        parsed('{"admin": {}, "admin": {}}')


def test_yaml_dates_stay_strings() -> None:
    assert parsed("node: {id: 2026-01-01, cluster: c}").node.id == "2026-01-01"
