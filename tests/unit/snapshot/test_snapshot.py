"""Lookup, merging and inheritance, and what a new snapshot shares with the former one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from xdskit.mesh import BOOKINFO, Mesh, objects

from mesh.api.destination_rule import DestinationRule
from mesh.api.peer_authentication import MutualTLSMode
from mesh.registry.types import Service, Workload, WorkloadKey
from mesh.snapshot import destination_rules, peer_authentication, virtual_services
from mesh.snapshot.order import exported, host_matches, hosts_overlap

REVIEWS = Service("reviews", "default", ())


def rule(
    name: str, host: str, namespace: str = "default", *, born: int = 1, export: str = "[]", subsets: str = "[]"
) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-{born:02}T00:00:00Z"}}
spec: {{host: "{host}", exportTo: {export}, subsets: {subsets}}}
"""


def found(*texts: str, viewer: str = "default") -> str | None:
    rules = [own for own in objects(*texts) if isinstance(own, DestinationRule)]
    merged = destination_rules.index(rules, "istio-system").lookup(REVIEWS, viewer)
    return merged.sources[0].name if merged else None


FULL = "reviews.default.svc.cluster.local"


@pytest.mark.parametrize(
    ("texts", "viewer", "expected"),
    [
        ([rule("theirs", FULL, "client"), rule("service", "reviews")], "client", "theirs"),
        ([rule("service", "reviews"), rule("root", FULL, "istio-system")], "client", "service"),
        ([rule("root", "*", "istio-system")], "client", "root"),
        ([rule("wide", "*.cluster.local", "client"), rule("service", "reviews")], "client", "wide"),
        ([rule("wide", "*.local"), rule("narrow", "*.default.svc.cluster.local")], "default", "narrow"),
        ([rule("private", "reviews", export='["."]')], "client", None),
        ([rule("private", "reviews", export='["."]')], "default", "private"),
        ([rule("lent", "reviews", export="[client]")], "client", "lent"),
        ([rule("stranger", FULL, "elsewhere")], "client", None),
    ],
)
def test_the_rule_a_client_follows(texts: list[str], viewer: str, expected: str | None) -> None:
    assert found(*texts, viewer=viewer) == expected


def test_rules_of_one_host_merge_by_age_and_keep_their_identity() -> None:
    old = rule("old", "reviews", born=1, subsets="[{name: v1, labels: {version: v1}}]")
    young = rule("young", FULL, born=2, subsets="[{name: v1, labels: {a: b}}, {name: v2, labels: {version: v2}}]")
    rules = [own for own in objects(young, old) if isinstance(own, DestinationRule)]
    first = destination_rules.index(rules, "istio-system")
    (merged,) = first.by_namespace["default"].values()
    assert [(subset.name, dict(subset.labels)) for subset in merged.subsets] == [
        ("v1", {"version": "v1"}),
        ("v2", {"version": "v2"}),
    ]
    again = destination_rules.index(rules, "istio-system", first)
    assert again.lookup(REVIEWS, "default") is merged


def vs(name: str, host: str, *, born: int = 1, namespace: str = "default", extra: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-{born:02}T00:00:00Z"}}
spec: {{hosts: ["{host}"], http: [{{directResponse: {{status: 200}}}}]{extra}}}
"""


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([vs("young", "reviews", born=2), vs("old", "reviews", born=1)], "old"),
        ([vs("b", "reviews"), vs("a", "reviews")], "a"),
        ([vs("wild", "*.cluster.local", born=1), vs("exact", "reviews", born=2)], "exact"),
        ([vs("wider", "*.local"), vs("wild", "*.svc.cluster.local", born=2)], "wild"),
        ([vs("hidden", FULL, namespace="other", extra=', exportTo: ["."]')], None),
        ([vs("edge", "reviews", extra=", gateways: [edge]")], None),
    ],
)
def test_the_virtual_service_sidecars_follow(texts: list[str], expected: str | None) -> None:
    bound = virtual_services.index(objects(*texts)).for_host(FULL, "default")  # type: ignore[arg-type]
    assert (bound.source.name if bound else None) == expected


def test_gateways_are_named_in_full_and_oldest_first() -> None:
    texts = [
        vs("young", "*", born=2, extra=", gateways: [edge]"),
        vs("old", "*", born=1, namespace="other", extra=", gateways: [default/edge, mesh]"),
    ]
    index = virtual_services.index(objects(*texts))  # type: ignore[arg-type]
    assert [bound.source.name for bound in index.by_gateway["default/edge"]] == ["old", "young"]


def policy(
    name: str, mode: str, *, namespace: str = "default", born: int = 1, selector: str = "", ports: str = ""
) -> str:
    chosen = f"selector: {{matchLabels: {selector}}}, " if selector else ""
    by_port = f", portLevelMtls: {ports}" if ports else ""
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-{born:02}T00:00:00Z"}}
spec: {{{chosen}mtls: {{mode: {mode}}}{by_port}}}
"""


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], "PERMISSIVE"),
        ([policy("mesh", "STRICT", namespace="istio-system")], "STRICT"),
        ([policy("mesh", "STRICT", namespace="istio-system"), policy("ns", "DISABLE")], "DISABLE"),
        ([policy("ns", "STRICT"), policy("own", "DISABLE", selector="{app: web}")], "DISABLE"),
        ([policy("ns", "STRICT"), policy("own", "UNSET", selector="{app: web}")], "STRICT"),
        ([policy("ns", "STRICT"), policy("other", "DISABLE", selector="{app: db}")], "STRICT"),
        ([policy("own", "STRICT", selector="{app: web}", ports="{8080: {mode: DISABLE}}")], "DISABLE"),
        ([policy("own", "STRICT", selector="{app: web}", ports="{8080: {mode: UNSET}}")], "STRICT"),
        ([policy("own", "STRICT", selector="{app: web}", ports="{9090: {mode: DISABLE}}")], "STRICT"),
        ([policy("b", "DISABLE", born=2), policy("a", "STRICT", born=1)], "STRICT"),
        (
            [policy("a", "DISABLE", selector="{app: web}", born=2), policy("b", "STRICT", selector="{app: web}")],
            "STRICT",
        ),
        ([policy("ns", "DISABLE", namespace="other")], "PERMISSIVE"),
    ],
)
def test_the_mode_of_a_port(texts: list[str], expected: str) -> None:
    web = Workload("web-0", "default", "web", "127.64.1.1", "default", {"app": "web"}, (), sidecar=True, ready=True)
    index = peer_authentication.index(objects(*texts), "istio-system")  # type: ignore[arg-type]
    assert index.mode(web, 8080) is MutualTLSMode(expected)


def test_an_endpoint_change_shares_all_else_with_the_former_snapshot() -> None:
    mesh = Mesh(objects(BOOKINFO.read_text(), rule("reviews", "reviews"), vs("reviews", "reviews")))
    former = mesh.catalog.snapshot
    gone = [own for own in objects(BOOKINFO.read_text()) if own.name == "reviews-v2-7c7d-aaaaa"]
    mesh.change([], gone)
    now = mesh.catalog.snapshot
    assert now.config_generation == former.config_generation
    assert now.resource_version == former.resource_version + 1
    for same in ("services", "accounts", "destination_rules", "virtual_services", "gateways", "peer_authentication"):
        assert getattr(now, same) is getattr(former, same), same
    assert WorkloadKey("default", "reviews-v2-7c7d-aaaaa") in former.workloads
    assert WorkloadKey("default", "reviews-v2-7c7d-aaaaa") not in now.workloads
    assert now.endpoints["ratings.default.svc.cluster.local"] is former.endpoints["ratings.default.svc.cluster.local"]


def test_configuration_and_service_changes_begin_a_generation() -> None:
    mesh = Mesh(objects(BOOKINFO.read_text()))
    generations = [mesh.catalog.snapshot.config_generation]
    for there, gone in ((vs("reviews", "reviews"), ""), ("", vs("reviews", "reviews")), (rule("r", "reviews"), "")):
        mesh.change(objects(there), objects(gone))
        generations.append(mesh.catalog.snapshot.config_generation)
    first = generations[0]
    assert generations == [first, first + 1, first + 2, first + 3]


@pytest.mark.parametrize(
    ("export_to", "viewer", "seen"),
    [
        ((), "b", True),
        (("*",), "b", True),
        ((".",), "b", False),
        ((".",), "a", True),
        (("b",), "b", True),
        (("b",), "c", False),
    ],
)
def test_export_to(export_to: tuple[str, ...], viewer: str, seen: bool) -> None:
    assert exported(export_to, "a", viewer) is seen


def test_host_patterns() -> None:
    assert host_matches("*", "a.b")
    assert host_matches("*.b", "a.b")
    assert not host_matches("*.b", "b")
    assert hosts_overlap("*.b.c", "*.c")
    assert not hosts_overlap("*.b", "*.c")


def test_resources_without_a_birthday_are_the_youngest() -> None:
    (dated,) = objects(vs("z", "reviews"))
    undated = objects(vs("a", "reviews").replace(', creationTimestamp: "2026-01-01T00:00:00Z"', ""))
    assert dated.metadata.creation_timestamp == datetime(2026, 1, 1, tzinfo=UTC)
    bound = virtual_services.index([*undated, dated]).for_host(FULL, "default")  # type: ignore[list-item]
    assert bound is not None
    assert bound.source.name == "z"
