"""The incremental protocol as a transcript: responses in, requests out."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from mesh.proxy.operations.references import CLUSTER, ENDPOINT, ROUTE
from mesh.proxy.operations.xds_client.incremental import IncrementalSubscriptions
from mesh.proxy.operations.xds_client.kinds import TYPE_URLS
from mesh.proxy.resources import Refused


def response(kind: Any, nonce: str, removed: tuple[str, ...] = (), **versions: str) -> DeltaDiscoveryResponse:
    """Resources by name and version."""
    built = DeltaDiscoveryResponse(nonce=nonce, type_url=TYPE_URLS[kind], removed_resources=removed)
    for name, version in versions.items():
        message = Cluster(name=name) if kind == CLUSTER else ClusterLoadAssignment(cluster_name=name)
        built.resources.add(name=name, version=version).resource.Pack(message)
    return built


def accept(subscriptions: IncrementalSubscriptions, answered: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest:
    return subscriptions.accept(answered, subscriptions.read(answered))


def names(request: DeltaDiscoveryRequest | None) -> tuple[list[str], list[str]]:
    assert request is not None
    return list(request.resource_names_subscribe), list(request.resource_names_unsubscribe)


@pytest.fixture
def subscriptions() -> IncrementalSubscriptions:
    made = IncrementalSubscriptions(Node(id="sidecar", cluster="c"))
    made.begin()
    return made


def test_the_node_goes_with_the_first_request_of_a_stream_only(subscriptions: IncrementalSubscriptions) -> None:
    clusters = subscriptions.subscribe(CLUSTER)
    assert clusters is not None
    assert clusters.node.id == "sidecar"
    endpoints = subscriptions.subscribe(ENDPOINT, ["a"])
    assert endpoints is not None
    assert not endpoints.HasField("node")


def test_all_clusters_are_asked_for_once_and_without_a_name(subscriptions: IncrementalSubscriptions) -> None:
    assert names(subscriptions.subscribe(CLUSTER)) == ([], [])
    assert subscriptions.subscribe(CLUSTER, (), ["a"]) is None


def test_names_come_and_go_one_by_one(subscriptions: IncrementalSubscriptions) -> None:
    assert names(subscriptions.subscribe(ENDPOINT, ["b", "a"])) == (["a", "b"], [])
    assert names(subscriptions.subscribe(ENDPOINT, ["c", "b"])) == (["c"], ["a"])
    assert subscriptions.subscribe(ENDPOINT, ["b", "c"]) is None
    assert names(subscriptions.subscribe(ENDPOINT)) == ([], ["b", "c"])


def test_no_name_is_no_subscription(subscriptions: IncrementalSubscriptions) -> None:
    assert subscriptions.subscribe(ROUTE) is None


def test_an_ack_has_the_nonce_and_no_name(subscriptions: IncrementalSubscriptions) -> None:
    subscriptions.subscribe(ENDPOINT, ["a"])
    ack = accept(subscriptions, response(ENDPOINT, "n1", a="1"))
    assert (ack.response_nonce, names(ack), ack.HasField("error_detail")) == ("n1", ([], []), False)


def test_a_nack_says_why_and_keeps_the_versions_before(subscriptions: IncrementalSubscriptions) -> None:
    subscriptions.subscribe(CLUSTER)
    accept(subscriptions, response(CLUSTER, "n1", a="1"))
    nack = subscriptions.refuse(response(CLUSTER, "n2", a="2", b="1"), "no such thing")
    assert (nack.response_nonce, nack.error_detail.code, nack.error_detail.message) == ("n2", 3, "no such thing")
    subscriptions.begin()
    again = subscriptions.subscribe(CLUSTER)
    assert again is not None
    assert dict(again.initial_resource_versions) == {"a": "1"}


def test_a_new_stream_says_which_versions_there_are(subscriptions: IncrementalSubscriptions) -> None:
    subscriptions.subscribe(CLUSTER)
    accept(subscriptions, response(CLUSTER, "n1", a="1", b="1"))
    accept(subscriptions, response(CLUSTER, "n2", ("b",), c="1"))
    subscriptions.subscribe(ENDPOINT, ["a", "c"])
    accept(subscriptions, response(ENDPOINT, "n3", a="7"))
    subscriptions.begin()
    clusters = subscriptions.subscribe(CLUSTER, (), ["a", "c"])
    endpoints = subscriptions.subscribe(ENDPOINT, ["a", "c"], ["a"])
    assert clusters is not None
    assert endpoints is not None
    assert dict(clusters.initial_resource_versions) == {"a": "1", "c": "1"}
    assert names(endpoints) == (["a", "c"], [])
    assert dict(endpoints.initial_resource_versions) == {"a": "7"}
    assert subscriptions.subscribe(ENDPOINT, ["a", "c"], ["a"]) is None


def test_versions_of_what_is_not_asked_for_any_more_are_forgotten(subscriptions: IncrementalSubscriptions) -> None:
    subscriptions.subscribe(ENDPOINT, ["a", "b"])
    accept(subscriptions, response(ENDPOINT, "n1", a="1", b="1", stranger="1"))
    subscriptions.subscribe(ENDPOINT, ["a"], ["a"])
    subscriptions.begin()
    again = subscriptions.subscribe(ENDPOINT, ["a", "b"], ["a"])
    assert again is not None
    assert dict(again.initial_resource_versions) == {"a": "1"}


def test_what_was_dropped_meanwhile_is_asked_for_again(subscriptions: IncrementalSubscriptions) -> None:
    """Its cluster went and came back between two requests; the control plane believes that it is still here."""
    subscriptions.subscribe(ENDPOINT, ["a", "b"])
    accept(subscriptions, response(ENDPOINT, "n1", a="1"))
    assert names(subscriptions.subscribe(ENDPOINT, ["a", "b"], ["b"])) == (["a"], [])
    assert subscriptions.subscribe(ENDPOINT, ["a", "b"], ["b"]) is None


def test_a_resource_under_another_name_is_refused(subscriptions: IncrementalSubscriptions) -> None:
    lying = response(CLUSTER, "n1", a="1")
    lying.resources[0].name = "b"
    with pytest.raises(Refused, match='Cluster "b": is not the name of the message'):
        subscriptions.read(lying)


def test_a_time_to_live_is_refused(subscriptions: IncrementalSubscriptions) -> None:
    mortal = response(CLUSTER, "n1", a="1")
    mortal.resources[0].ttl.seconds = 5
    with pytest.raises(Refused, match='Cluster "a": ttl: not supported'):
        subscriptions.read(mortal)
