"""Who may open a stream."""

from __future__ import annotations

import pytest
from envoy.config.core.v3.base_pb2 import Node

from mesh.registry.types import Workload, WorkloadKey
from mesh.xds.ads.node import IdentityError, NodeError, certified_identities, check_identity, read_node
from mesh.xds.compile.proxy import Engine, Interception, Proxy, Role

ID = "sidecar~127.64.1.1~reviews-v1-abc.default~default.svc.cluster.local"
POD = Workload(
    "reviews-v1-abc", "default", "reviews-v1", "127.64.1.1", "bookinfo-reviews", {}, (), sidecar=True, ready=True
)
OWN = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"


def node(node_id: str = ID, engine: str = "", interception: str = "", user_agent: str = "") -> Node:
    made = Node(id=node_id, user_agent_name=user_agent)
    if interception:
        made.metadata.update({"INTERCEPTION_MODE": interception})
    if engine:
        made.metadata.update({"ENGINE": engine})
    return made


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (node(), Proxy(WorkloadKey("default", "reviews-v1-abc"), Role.SIDECAR, Engine.PYTHON)),
        (node(engine="envoy"), Proxy(WorkloadKey("default", "reviews-v1-abc"), Role.SIDECAR, Engine.ENVOY)),
        (node(engine="envoy", user_agent="envoy"), Proxy(POD.key, Role.SIDECAR, Engine.ENVOY)),
        (node(user_agent="envoy"), Proxy(POD.key, Role.SIDECAR, Engine.LONE_ENVOY)),
        (node(interception="REDIRECT"), Proxy(POD.key, Role.SIDECAR, interception=Interception.REDIRECT)),
        (node("router~127.64.1.9~edge.1.istio-system~x"), Proxy(WorkloadKey("istio-system", "edge.1"), Role.ROUTER)),
    ],
)
def test_a_node_is_read(given: Node, expected: Proxy) -> None:
    assert read_node(given).proxy == expected


@pytest.mark.parametrize(
    "given",
    [
        node(""),
        node("sidecar~127.64.1.1~reviews~x"),
        node("ztunnel~a~b.c~d"),
        node("sidecar~a~b.c"),
        node(engine="nginx"),
        node(interception="TPROXY"),
    ],
)
def test_a_bad_node_is_refused_by_its_words(given: Node) -> None:
    with pytest.raises(NodeError, match=r"is not sidecar\|router~<address>~<pod>"):
        read_node(given)


def test_the_certificate_must_be_the_pods_and_nothing_else() -> None:
    check_identity(read_node(node()), POD, frozenset({OWN}), "cluster.local")
    others = (frozenset[str](), frozenset({OWN.replace("reviews", "ratings")}), frozenset({OWN, OWN + "x"}))
    for certified in others:
        with pytest.raises(IdentityError, match=r"runs as spiffe://cluster\.local/ns/default/sa/bookinfo-reviews"):
            check_identity(read_node(node()), POD, certified, "cluster.local")


def test_identities_are_the_certificates_spiffe_names() -> None:
    context = {
        "x509_subject_alternative_name": [OWN.encode(), b"reviews.default"],
        "x509_common_name": [b"spiffe://no"],
    }
    assert certified_identities(context) == {OWN}
    assert certified_identities({}) == frozenset()
