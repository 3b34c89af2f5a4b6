"""What is compiled once, what is shared, and what a change compiles again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from xdskit.mesh import BOOKINFO, Mesh, listeners, objects, routes

from mesh.api.pod import Pod, PodCondition
from mesh.registry.types import WorkloadKey
from mesh.xds.ads.catalog import UnknownWorkloadError
from mesh.xds.ads.touched import Touched
from mesh.xds.compile.proxy import Role

PRODUCTPAGE, REVIEWS_V1, RATINGS = "productpage-v1-5d4f-aaaaa", "reviews-v1-6a6b-aaaaa", "ratings-v1-8e8f-aaaaa"
REVIEWS = "outbound|9080||reviews.default.svc.cluster.local"
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
"""
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{directResponse: {status: 204}}]}
"""
BY_SOURCE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - {match: [{sourceLabels: {app: productpage}}], directResponse: {status: 204}}
  - {route: [{destination: {host: reviews}}]}
"""

TLS_GATEWAY = """
apiVersion: v1
kind: Secret
metadata: {name: edge, namespace: istio-system}
stringData: {cert: chain, key: first}
---
apiVersion: v1
kind: Secret
metadata: {name: other, namespace: istio-system}
stringData: {cert: chain, key: other}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: SIMPLE, credentialName: edge}}
"""
INGRESS = "ingress-9a9b-aaaaa"


@pytest.fixture
def mesh() -> Mesh:
    return Mesh(objects(BOOKINFO.read_text()))


def unready(name: str) -> Pod:
    pod = next(own for own in objects(BOOKINFO.read_text()) if own.name == name)
    assert isinstance(pod, Pod)
    return replace(pod, status=replace(pod.status, conditions=(PodCondition(type="Ready", status="False"),)))


def test_proxies_of_a_namespace_share_clusters_endpoints_and_routes(mesh: Mesh) -> None:
    one, other = mesh.config(PRODUCTPAGE), mesh.config(REVIEWS_V1)
    assert one.clusters.layers[0] is other.clusters.layers[0]
    assert one.endpoints(REVIEWS) is other.endpoints(REVIEWS)
    assert one.routes("http_proxy") is other.routes("http_proxy")


def test_the_gateway_shares_cluster_bytes_across_namespaces(mesh: Mesh) -> None:
    here = {own.name: own for own in mesh.config(PRODUCTPAGE).clusters}
    there = {own.name: own for own in mesh.config("ingress-9a9b-aaaaa", "istio-system", Role.ROUTER).clusters}
    assert here[REVIEWS] is there[REVIEWS]


def test_keys_are_for_the_gateway_that_a_gateway_selects_and_for_nobody_else(mesh: Mesh) -> None:
    """Whatever a proxy says that it is: the control plane knows its pod's labels and namespace."""
    mesh.change(objects(TLS_GATEWAY))
    assert mesh.config(INGRESS, "istio-system", Role.ROUTER).secret_names == {"kubernetes://edge"}
    assert mesh.config(INGRESS, "istio-system", Role.ROUTER).secrets("kubernetes://other") is None
    for role in Role:
        config = mesh.config(PRODUCTPAGE, role=role)
        assert config.secret_names == frozenset()
        assert config.secrets("kubernetes://edge") is None


def test_a_gateway_has_keys_of_its_own_namespace_alone(mesh: Mesh) -> None:
    mesh.change(objects(TLS_GATEWAY.replace("namespace: istio-system", "namespace: default")))
    config = mesh.config(INGRESS, "istio-system", Role.ROUTER)
    assert config.secret_names == frozenset()
    assert "0.0.0.0_8443" not in listeners(config)


def test_a_renewed_key_leaves_listeners_as_they_are(mesh: Mesh) -> None:
    mesh.change(objects(TLS_GATEWAY))
    before = mesh.config(INGRESS, "istio-system", Role.ROUTER)
    mesh.change(objects(TLS_GATEWAY.replace("key: first", "key: second")))
    after = mesh.config(INGRESS, "istio-system", Role.ROUTER)
    assert after.listeners.version == before.listeners.version
    assert after.secrets("kubernetes://edge") != before.secrets("kubernetes://edge")


def test_keys_are_not_printed(mesh: Mesh) -> None:
    mesh.change(objects(TLS_GATEWAY))
    snapshot = mesh.catalog.snapshot
    pair = snapshot.credentials.pair("istio-system", "edge")
    shown = f"{snapshot} {pair} {objects(TLS_GATEWAY)} {mesh.config(INGRESS, 'istio-system', Role.ROUTER).secrets}"
    assert "first" not in shown


def test_source_labels_part_routes_of_those_they_tell_apart(mesh: Mesh) -> None:
    mesh.change(objects(BY_SOURCE))
    page, reviews, ratings = (mesh.config(pod).routes("http_proxy") for pod in (PRODUCTPAGE, REVIEWS_V1, RATINGS))
    assert page is not None
    assert reviews is not None
    assert ratings is not None
    assert page.version != reviews.version
    assert reviews.version == ratings.version


def test_a_rule_compiles_its_own_clusters_again_and_no_others(mesh: Mesh) -> None:
    before = mesh.config(PRODUCTPAGE)
    made = mesh.catalog.compiled.made
    assert mesh.change(objects(RULE)) == Touched(None, routes=True)
    after = mesh.config(PRODUCTPAGE)
    assert [own.name for own in after.clusters.changed_since(before.clusters)] == [REVIEWS]
    assert mesh.catalog.compiled.made == made + 1
    assert after.listeners.version == before.listeners.version


def test_a_route_leaves_clusters_as_the_very_same_bytes(mesh: Mesh) -> None:
    before = mesh.config(PRODUCTPAGE)
    former_routes = routes(before)
    assert mesh.change(objects(ROUTE)) == Touched(frozenset(), routes=True)
    after = mesh.config(PRODUCTPAGE)
    assert after.clusters.layers[0] is before.clusters.layers[0]
    assert routes(after) != former_routes


def test_an_endpoint_change_touches_its_clusters_alone(mesh: Mesh) -> None:
    before = mesh.config(PRODUCTPAGE)
    former_hosts = before.endpoints(REVIEWS)
    made = mesh.catalog.compiled.made
    touched = mesh.change([unready("reviews-v2-7c7d-aaaaa")])
    assert touched == Touched(frozenset({REVIEWS}), routes=False)
    after = mesh.config(PRODUCTPAGE)
    assert after.clusters.version == before.clusters.version
    assert after.endpoints(REVIEWS) != former_hosts
    assert mesh.catalog.compiled.made == made + 1


def test_a_pods_own_change_changes_its_own_listeners(mesh: Mesh) -> None:
    before = mesh.config(REVIEWS_V1)
    pod = next(own for own in objects(BOOKINFO.read_text()) if own.name == REVIEWS_V1)
    assert isinstance(pod, Pod)
    mesh.change([replace(pod, metadata=replace(pod.metadata, annotations={"meshdrill.dev/app-ports": '{"9080": 5}'}))])
    after = mesh.config(REVIEWS_V1)
    assert after.clusters.version != before.clusters.version
    assert (
        mesh.config(PRODUCTPAGE).clusters.version
        == Mesh(objects(BOOKINFO.read_text())).config(PRODUCTPAGE).clusters.version
    )


def test_what_is_undone_has_its_former_version_again(mesh: Mesh) -> None:
    before = mesh.config(PRODUCTPAGE)
    former_routes = before.routes("http_proxy")
    mesh.change(objects(RULE, ROUTE))
    assert mesh.config(PRODUCTPAGE).routes("http_proxy") != former_routes
    mesh.change([], objects(RULE, ROUTE))
    after = mesh.config(PRODUCTPAGE)
    assert after.clusters.version == before.clusters.version
    assert after.routes("http_proxy") == former_routes


def test_a_pod_that_is_gone_has_no_configuration(mesh: Mesh) -> None:
    mesh.change([], [own for own in objects(BOOKINFO.read_text()) if own.name == RATINGS])
    with pytest.raises(UnknownWorkloadError, match=RATINGS):
        mesh.config(RATINGS)


def test_a_port_the_platform_has_no_app_for_gets_no_listener() -> None:
    """Its traffic would be forwarded to the sidecar itself, for ever."""
    text = BOOKINFO.read_text().replace("'{\"9080\": 41002}'", "'{}'")
    assert set(listeners(Mesh(objects(text)).config(REVIEWS_V1))) == {"http_proxy"}


def test_workloads_are_found_by_namespace_and_name(mesh: Mesh) -> None:
    assert WorkloadKey("default", RATINGS) in mesh.catalog.snapshot.workloads
