"""RBAC rules as decisions, and path templates as matches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from envoy.config.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC as NetworkRules  # noqa: N811 - one of two
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as Packed

from mesh.proxy.compile.network_rbac import compile_network_rbac
from mesh.proxy.compile.rbac import TCP, compile_rules
from mesh.proxy.compile.uri_template import uri_template
from mesh.proxy.downstream.connection_info import ConnectionInfo
from mesh.proxy.downstream.network_filters.rbac import Connecting
from mesh.proxy.fields import Place
from mesh.proxy.observe.counters import NamedCounters
from mesh.proxy.observe.stats import Stats
from mesh.proxy.policy.rbac import Control, Counts, denial
from mesh.proxy.resources import Refused
from mesh.proxy.tls.connection import Peer

PLACE = Place("Listener", "l")


def rules(**fields: Any) -> Any:
    return compile_rules(json_format.ParseDict(fields, RBAC()), TCP, PLACE)


def policy(permission: Any, principal: Any) -> dict[str, Any]:
    return {"permissions": [permission], "principals": [principal]}


def connection(remote: str = "10.0.0.1", port: int = 80, peer: Peer | None = None) -> Connecting:
    return Connecting(ConnectionInfo((remote, 1234), ("10.9.9.9", port)), peer)


def test_the_first_policy_by_name_is_the_one_that_is_told() -> None:
    everything = policy({"any": True}, {"any": True})
    assert rules(policies={"b": everything, "a": everything}).judge(connection()) == (True, "a")
    assert rules(action="DENY", policies={"b": everything, "a": everything}).judge(connection()) == (False, "a")
    assert rules(action="LOG").judge(connection()) == (True, "")


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [
        ({"source_ip": {"address_prefix": "10.0.0.0", "prefix_len": 24}}, True),
        ({"direct_remote_ip": {"address_prefix": "10.0.1.0", "prefix_len": 24}}, False),
        ({"remote_ip": {"address_prefix": "2001:db8::", "prefix_len": 32}}, False),
        ({"authenticated": {}}, True),
        ({"authenticated": {"principal_name": {"exact": "CN=bob"}}}, True),
        ({"authenticated": {"principal_name": {"suffix": "/sa/bob"}}}, True),
        ({"authenticated": {"principal_name": {"suffix": "/sa/eve"}}}, False),
        ({"and_ids": {"ids": [{"any": True}, {"not_id": {"any": True}}]}}, False),
        ({"or_ids": {"ids": [{"not_id": {"any": True}}, {"any": True}]}}, True),
        ({"metadata": {"filter": "f", "path": [{"key": "k"}], "value": {"present_match": True}}}, False),
    ],
)
def test_principals_of_a_connection(principal: Any, allowed: bool) -> None:
    peer = Peer(uri_sans=("spiffe://mesh/sa/bob",), subject="CN=bob")
    judged = rules(policies={"p": policy({"any": True}, principal)}).judge(connection(peer=peer))
    assert judged == (allowed, "p" if allowed else "")


def test_a_dns_name_is_a_principal_too() -> None:
    session: Any = SimpleNamespace(getpeercert=lambda: {"subjectAltName": (("DNS", "bob.test"), ("URI", "x://y"))})
    asked = rules(policies={"p": policy({"any": True}, {"authenticated": {"principal_name": {"exact": "bob.test"}}})})
    assert asked.judge(connection(peer=Peer(session=session))) == (True, "p")
    assert asked.judge(connection()) == (False, "")


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (policy({"header": {"name": "x"}}, {"any": True}), "header"),
        (policy({"any": True}, {"sourced_metadata": {"metadata_source": "ROUTE"}}), "metadata_source"),
        (policy({}, {"any": True}), "permissions[0]"),
        ({"principals": [{"any": True}]}, "policies[p]"),
    ],
)
def test_what_a_connection_cannot_answer_is_refused(made: Any, field: str) -> None:
    with pytest.raises(Refused) as refused:
        rules(policies={"p": made})
    assert refused.value.field_path.endswith(field)


def test_enforced_and_shadow_rules_are_counted_and_told_apart() -> None:
    counters = NamedCounters()
    counts = Counts(counters, "", "dry.")
    nobody, somebody = rules(), rules(policies={"p q": policy({"any": True}, {"any": True})})
    control = Control(somebody, nobody, "", "dry.", tracks_policies=True)
    allowed, name, told = control.judge(connection(), counts)
    assert (allowed, name) == (True, "p q")
    assert told == {
        "dry.shadow_engine_result": "denied",
        "enforced_effective_policy_id": "p q",
        "enforced_engine_result": "allowed",
    }
    assert counters.counts == {
        "allowed": 1, "denied": 0, "dry.shadow_allowed": 0, "dry.shadow_denied": 1, "policy.p q.allowed": 1
    }  # fmt: skip
    counters.reset_counters()
    assert not any(counters.counts.values())


def test_details_have_no_spaces() -> None:
    assert denial("") == "rbac_access_denied_matched_policy[none]"
    assert denial("p q") == "rbac_access_denied_matched_policy[p_q]"


@pytest.mark.parametrize(
    ("template", "path", "matches"),
    [
        ("/a/*/c", b"/a/b/c", True),
        ("/a/*/c", b"/a//c", False),
        ("/a/*/c", b"/a/b/b/c", False),
        ("/a/**", b"/a/", True),
        ("/a/**", b"/a/b/c", True),
        ("/a/**", b"/ab", False),
        ("/{v}/x", b"/1/x", True),
        ("/{v=**}", b"/1/x", True),
        ("/a/*.html", b"/a/b.html", None),
        ("/a.b/*", b"/aXb/c", False),
        ("/a/v*", b"/a/v1", True),
        ("/**/a", b"/b/a", None),
        ("a", b"a", None),
        ("/{", b"/", None),
    ],
)
def test_path_templates(template: str, path: bytes, matches: bool | None) -> None:
    if matches is None:
        with pytest.raises(Refused):
            uri_template(template, PLACE)
    else:
        assert uri_template(template, PLACE)(path) == matches


def test_connections_are_decided_once() -> None:
    packed = Packed()
    packed.Pack(NetworkRules(stat_prefix="s.", enforcement_type=NetworkRules.CONTINUOUS))
    with pytest.raises(Refused, match=r"f\.enforcement_type: only ONE_TIME_ON_FIRST_BYTE is supported"):
        compile_network_rbac(packed, Stats(), Place("Listener", "l", "f"))
