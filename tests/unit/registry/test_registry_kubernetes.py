"""Services and endpoints as Kubernetes' endpoint controller would have them, and what each change tells."""

from __future__ import annotations

from dataclasses import replace

import pytest
from xdskit.mesh import BOOKINFO, objects

from mesh.api.meta import Resource
from mesh.api.pod import Pod, PodCondition
from mesh.registry.changes import RegistryChange
from mesh.registry.kubernetes import KubernetesRegistry
from mesh.registry.protocol import Protocol, protocol_of
from mesh.registry.translate import to_workload
from mesh.registry.types import WorkloadKey, resolve_host

REVIEWS = "reviews.default.svc.cluster.local"


class Told:
    """A registry and the changes it tells."""

    def __init__(self, *texts: str) -> None:
        self.registry = KubernetesRegistry()
        self.changes: list[RegistryChange] = []
        self.registry.subscribe(self.changes.append)
        self.registry.change(objects(*texts))

    def after(self, upserts: list[Resource], deletions: list[Resource] | None = None) -> RegistryChange | None:
        """What one change tells; None when it tells nothing."""
        self.changes.clear()
        self.registry.change(upserts, deletions or [])
        assert len(self.changes) <= 1
        return self.changes[0] if self.changes else None


def pod(name: str, labels: str, *, ip: str = "127.64.2.1", ports: str = "", ready: bool = True) -> Resource:
    (made,) = objects(f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {labels}}}
spec: {{containers: [{{name: app, ports: [{ports}]}}, {{name: istio-proxy}}]}}
status: {{phase: Running, podIP: {ip}, conditions: [{{type: Ready, status: "{ready}"}}]}}
""")
    return made


def service(name: str, ports: str, selector: str = "{app: web}", extra: str = "") -> Resource:
    (made,) = objects(f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {selector}, ports: [{ports}]{extra}}}
""")
    return made


def unready(own: Resource) -> Resource:
    assert isinstance(own, Pod)
    return replace(own, status=replace(own.status, conditions=(PodCondition(type="Ready", status="False"),)))


def addresses(change: RegistryChange | None, host: str) -> list[tuple[str, int, int]]:
    assert change is not None
    return [(own.workload.address, own.service_port, own.port) for own in change.endpoints[host] or ()]


def test_bookinfo_has_its_services_and_ready_pods() -> None:
    (change,) = Told(BOOKINFO.read_text()).changes
    assert set(change.services) == {
        f"{name}.default.svc.cluster.local" for name in ("productpage", "reviews", "ratings")
    }
    assert addresses(change, REVIEWS) == [("127.64.1.2", 9080, 9080), ("127.64.1.3", 9080, 9080)]
    assert change.accounts[REVIEWS] == ("bookinfo-reviews",)
    reviews = change.workloads[WorkloadKey("default", "reviews-v1-6a6b-aaaaa")]
    assert reviews is not None
    assert (reviews.owner, reviews.sidecar, reviews.app_ports) == ("reviews-v1", True, {9080: 41002})


def test_target_ports_by_number_by_name_and_by_default() -> None:
    told = Told()
    change = told.after(
        [
            service(
                "web",
                "{name: a, port: 80, targetPort: 8080}, {name: b, port: 81, targetPort: named}, {name: c, port: 82}",
            ),
            pod("w", "{app: web}", ports="{name: named, containerPort: 9999}"),
            pod("x", "{app: web}", ip="127.64.2.2"),
        ]
    )
    assert addresses(change, "web.default.svc.cluster.local") == [
        ("127.64.2.1", 80, 8080),
        ("127.64.2.2", 80, 8080),
        ("127.64.2.1", 81, 9999),
        ("127.64.2.1", 82, 82),
        ("127.64.2.2", 82, 82),
    ]


def test_a_pod_that_becomes_unready_changes_endpoints_alone() -> None:
    told = Told(BOOKINFO.read_text())
    own = next(own for own in objects(BOOKINFO.read_text()) if own.name == "reviews-v2-7c7d-aaaaa")
    change = told.after([unready(own)])
    assert change is not None
    assert not change.services
    assert not change.accounts
    assert addresses(change, REVIEWS) == [("127.64.1.2", 9080, 9080)]


def test_an_object_that_says_nothing_new_tells_nothing() -> None:
    assert Told(BOOKINFO.read_text()).after(objects(BOOKINFO.read_text())) is None


def test_labels_move_a_pod_from_one_service_to_another() -> None:
    told = Told()
    told.after([service("one", "{port: 80}", "{v: a}"), service("two", "{port: 80}", "{v: b}"), pod("w", "{v: a}")])
    change = told.after([pod("w", "{v: b}")])
    assert addresses(change, "one.default.svc.cluster.local") == []
    assert addresses(change, "two.default.svc.cluster.local") == [("127.64.2.1", 80, 80)]


def test_a_changed_selector_selects_anew_and_tells_the_workloads() -> None:
    told = Told()
    told.after([service("web", "{port: 80}"), pod("w", "{app: web}"), pod("x", "{app: other}", ip="127.64.2.2")])
    change = told.after([service("web", "{port: 80}", "{app: other}")])
    assert addresses(change, "web.default.svc.cluster.local") == [("127.64.2.2", 80, 80)]
    assert change is not None
    assert change.selecting[WorkloadKey("default", "w")] == ()
    selecting = change.selecting[WorkloadKey("default", "x")]
    assert selecting is not None
    assert [own.name for own in selecting] == ["web"]


def test_a_service_keeps_its_accounts_while_its_only_pod_restarts() -> None:
    told = Told(BOOKINFO.read_text())
    gone = [own for own in objects(BOOKINFO.read_text()) if own.name == "ratings-v1-8e8f-aaaaa"]
    change = told.after([], gone)
    assert addresses(change, "ratings.default.svc.cluster.local") == []
    assert change is not None
    assert not change.accounts


def test_deleted_services_and_pods_are_gone() -> None:
    told = Told()
    there = [service("web", "{port: 80}"), pod("w", "{app: web}")]
    told.after(there)
    change = told.after([], there)
    assert change is not None
    assert change.services == {"web.default.svc.cluster.local": None}
    assert change.endpoints == {"web.default.svc.cluster.local": None}
    assert change.workloads == {WorkloadKey("default", "w"): None}


def test_a_service_without_selector_selects_nobody() -> None:
    change = Told().after([service("web", "{port: 80}", "{}"), pod("w", "{app: web}")])
    assert addresses_or_none(change) is None


def addresses_or_none(change: RegistryChange | None) -> object:
    assert change is not None
    return change.endpoints.get("web.default.svc.cluster.local") or None


def test_headless_and_external_name_services() -> None:
    told = Told()
    change = told.after(
        [
            service("flat", "{port: 80}", extra=", clusterIP: None"),
            service("far", "{port: 80}", extra=", type: ExternalName"),
        ]
    )
    assert change is not None
    flat = change.services["flat.default.svc.cluster.local"]
    assert flat is not None
    assert flat.headless
    assert change.services.get("far.default.svc.cluster.local") is None


def test_a_bad_annotation_keeps_one_pod_out_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    (bad,) = objects("""
apiVersion: v1
kind: Pod
metadata: {name: bad, annotations: {meshdrill.dev/app-ports: "9080"}}
spec: {containers: [{name: app}]}
status: {phase: Running, podIP: 127.64.2.3}
""")
    assert Told().after([bad]) is None
    assert 'pod default/bad: annotation meshdrill.dev/app-ports is "9080"' in caplog.text


@pytest.mark.parametrize(
    ("name", "app_protocol", "transport", "expected"),
    [
        ("http", None, "TCP", Protocol.HTTP),
        ("http-web", None, "TCP", Protocol.HTTP),
        ("HTTP2-x", None, "TCP", Protocol.HTTP2),
        ("grpc", None, "TCP", Protocol.GRPC),
        ("grpc-web", None, "TCP", Protocol.GRPC_WEB),
        ("grpc-web-x", None, "TCP", Protocol.GRPC_WEB),
        ("https", None, "TCP", Protocol.HTTPS),
        ("tls-x", None, "TCP", Protocol.TLS),
        ("mysql", None, "TCP", Protocol.MYSQL),
        ("httpweb", None, "TCP", Protocol.UNSUPPORTED),
        ("", None, "TCP", Protocol.UNSUPPORTED),
        ("http", "tcp", "TCP", Protocol.TCP),
        ("tcp", "kubernetes.io/h2c", "TCP", Protocol.HTTP2),
        ("http", "example.com/own", "TCP", Protocol.UNSUPPORTED),
        ("http", None, "UDP", Protocol.UDP),
    ],
)
def test_protocol_by_istios_rules(name: str, app_protocol: str | None, transport: str, expected: Protocol) -> None:
    assert protocol_of(name, app_protocol, transport) is expected


@pytest.mark.parametrize(
    ("host", "full"),
    [
        ("reviews", "reviews.ns.svc.cluster.local"),
        ("reviews.default", "reviews.default"),
        ("*", "*"),
        ("*.com", "*.com"),
    ],
)
def test_only_names_without_dots_are_completed(host: str, full: str) -> None:
    assert resolve_host(host, "ns") == full


def test_ports_of_init_containers_count_only_where_they_run_as_long_as_the_pod_does() -> None:
    (made,) = objects("""
apiVersion: v1
kind: Pod
metadata: {name: web-1}
spec:
  initContainers:
  - {name: wait, ports: [{containerPort: 1, name: early}]}
  - {name: cache, restartPolicy: Always, ports: [{containerPort: 2, name: cache}]}
  - {name: istio-proxy, restartPolicy: Always}
  containers: [{name: app, ports: [{containerPort: 3}]}]
status: {phase: Running, podIP: 127.64.2.1}
""")
    assert isinstance(made, Pod)
    workload = to_workload(made)
    assert workload is not None
    assert [port.number for port in workload.ports] == [3, 2]


@pytest.mark.parametrize(("labels", "expected"), [("istio", True), ("disabled", False), ("", False)])
def test_mutual_tls_is_what_the_label_says_and_not_the_container(labels: str, expected: bool) -> None:
    found = to_workload(pod("web-1", f"{{security.istio.io/tlsMode: {labels!r}}}"))
    assert found is not None
    assert found.sidecar is expected
