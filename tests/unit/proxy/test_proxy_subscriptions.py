"""The state-of-the-world protocol as a transcript: responses in, requests out."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.protobuf.any_pb2 import Any as Packed

from mesh.proxy.operations.references import CLUSTER, ENDPOINT, ROUTE
from mesh.proxy.operations.xds_client.kinds import MESSAGES, TYPE_URLS
from mesh.proxy.operations.xds_client.subscriptions import Subscriptions
from mesh.proxy.operations.xds_client.update import Update
from mesh.proxy.resources import Refused


def response(kind: Any, version: str, nonce: str, *messages: Any) -> DiscoveryResponse:
    built = DiscoveryResponse(version_info=version, nonce=nonce, type_url=TYPE_URLS[kind])
    for message in messages:
        built.resources.add().Pack(message)
    return built


def accept(subscriptions: Subscriptions, answered: DiscoveryResponse) -> DiscoveryRequest:
    return subscriptions.accept(answered, subscriptions.read(answered))


@pytest.fixture
def subscriptions() -> Subscriptions:
    made = Subscriptions(Node(id="sidecar", cluster="c"))
    made.begin()
    return made


def test_the_node_goes_with_the_first_request_of_a_stream_only(subscriptions: Subscriptions) -> None:
    clusters = subscriptions.subscribe(CLUSTER)
    endpoints = subscriptions.subscribe(ENDPOINT, ["a"])
    assert clusters is not None
    assert clusters.node.id == "sidecar"
    assert endpoints is not None
    assert not endpoints.HasField("node")
    subscriptions.begin()
    again = subscriptions.subscribe(ENDPOINT, ["a"])
    assert again is not None
    assert again.node.id == "sidecar"


def test_an_ack_repeats_version_and_nonce(subscriptions: Subscriptions) -> None:
    subscriptions.subscribe(CLUSTER)
    ack = accept(subscriptions, response(CLUSTER, "7", "n1"))
    assert (ack.version_info, ack.response_nonce, ack.HasField("error_detail")) == ("7", "n1", False)


def test_a_nack_keeps_the_version_before_and_says_why(subscriptions: Subscriptions) -> None:
    subscriptions.subscribe(CLUSTER)
    accept(subscriptions, response(CLUSTER, "7", "n1"))
    nack = subscriptions.refuse(response(CLUSTER, "8", "n2"), "no such thing")
    assert (nack.version_info, nack.response_nonce, nack.error_detail.message) == ("7", "n2", "no such thing")
    assert nack.error_detail.code == 3


def test_new_names_are_asked_for_with_the_last_nonce(subscriptions: Subscriptions) -> None:
    subscriptions.subscribe(ENDPOINT, ["a"])
    accept(subscriptions, response(ENDPOINT, "1", "n1"))
    request = subscriptions.subscribe(ENDPOINT, ["b", "a"])
    assert request is not None
    assert (list(request.resource_names), request.version_info, request.response_nonce) == (["a", "b"], "1", "n1")
    assert subscriptions.subscribe(ENDPOINT, ["a", "b"]) is None


def test_no_name_is_no_subscription_but_giving_the_last_one_up_is_said(subscriptions: Subscriptions) -> None:
    assert subscriptions.subscribe(ROUTE) is None
    subscriptions.subscribe(ROUTE, ["a"])
    request = subscriptions.subscribe(ROUTE)
    assert request is not None
    assert not request.resource_names


def test_a_new_stream_subscribes_with_the_known_version_and_no_nonce(subscriptions: Subscriptions) -> None:
    subscriptions.subscribe(CLUSTER)
    accept(subscriptions, response(CLUSTER, "7", "n1"))
    subscriptions.begin()
    request = subscriptions.subscribe(CLUSTER)
    assert request is not None
    assert (request.version_info, request.response_nonce) == ("7", "")


def test_a_response_of_clusters_is_all_of_them_and_one_of_endpoints_is_not(subscriptions: Subscriptions) -> None:
    a, b = Cluster(name="a"), Cluster(name="b")
    assert subscriptions.read(response(CLUSTER, "1", "n", a, b)) == Update({"a": a, "b": b}, "1", is_whole=True)
    assert subscriptions.read(response(ENDPOINT, "1", "n")) == Update({}, "1")


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([Cluster(name="a"), Cluster(name="a")], 'Cluster "a": duplicate cluster a found'),
        ([Cluster()], 'Cluster "resources[0]": name: required'),
        ([Listener(name="a")], "is a type.googleapis.com/envoy.config.listener.v3.Listener, not a"),
    ],
)
def test_a_response_that_cannot_be_meant_is_refused_whole(
    subscriptions: Subscriptions, messages: list[Any], said: str
) -> None:
    with pytest.raises(Refused) as refusal:
        subscriptions.read(response(CLUSTER, "1", "n", *messages))
    assert said in str(refusal.value)


def test_bytes_that_are_no_message_are_refused(subscriptions: Subscriptions) -> None:
    broken = DiscoveryResponse(type_url=TYPE_URLS[CLUSTER])
    broken.resources.append(Packed(type_url=TYPE_URLS[CLUSTER], value=b"\xff\xff\xff"))
    with pytest.raises(Refused, match="cannot be decoded"):
        subscriptions.read(broken)


def test_every_kind_has_its_type_url() -> None:
    assert set(TYPE_URLS) == set(MESSAGES)
    assert TYPE_URLS[ENDPOINT] == "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
