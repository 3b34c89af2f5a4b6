"""Kubernetes' REST verbs, against the real process."""

import http.client
import json
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from control_process import API_PORT, ControlProcess, Manifest, service, subset_of, virtual_service

from mesh.client import ApiError, MeshClient


class Raw:
    """Requests that the client would not make."""

    def __init__(self, control: ControlProcess) -> None:
        context = ssl.create_default_context(cafile=str(control.root_cert))
        self._connection = http.client.HTTPSConnection(control.address, API_PORT, context=context, timeout=20)
        self.token = (control.state / "token").read_text().strip()

    def send(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json", **headers: str
    ) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type} | headers
        self._connection.request(method, path, body, {name: value for name, value in sent.items() if value})
        response = self._connection.getresponse()
        data = response.read()
        if "json" not in response.headers["Content-Type"]:
            return response.status, data.decode()
        return response.status, json.loads(data)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def raw(control: ControlProcess) -> Any:
    raw = Raw(control)
    yield raw
    raw.close()


COLLECTION = "/apis/networking.istio.io/v1/namespaces/default/virtualservices"


def test_an_object_lives_and_dies(client: MeshClient) -> None:
    created = client.create(virtual_service("life", "v1"))
    assert created["metadata"]["uid"]
    assert client.get("vs", "life") == created

    replaced = client.replace(virtual_service("life", "v2"))
    assert subset_of(replaced) == "v2"
    assert replaced["metadata"]["uid"] == created["metadata"]["uid"]
    assert int(replaced["metadata"]["resourceVersion"]) > int(created["metadata"]["resourceVersion"])

    gone_at = client.delete("vs", "life")
    assert int(gone_at) > int(replaced["metadata"]["resourceVersion"])
    for missing in (lambda: client.get("vs", "life"), lambda: client.delete("vs", "life")):
        with pytest.raises(ApiError, match="VirtualService default/life not found") as refused:
            missing()
        assert (refused.value.status, refused.value.reason) == (404, "NotFound")


def test_what_is_there_is_not_created_again(client: MeshClient) -> None:
    client.create(virtual_service("twice"))
    with pytest.raises(ApiError) as refused:
        client.create(virtual_service("twice"))
    assert (refused.value.status, refused.value.reason) == (409, "AlreadyExists")


def test_a_stale_replacement_is_refused(client: MeshClient) -> None:
    read = client.create(virtual_service("stale", "v1"))
    client.replace(virtual_service("stale", "v2"))
    with pytest.raises(ApiError) as refused:
        client.replace(read)
    assert (refused.value.status, refused.value.reason) == (409, "Conflict")
    assert subset_of(client.get("vs", "stale")) == "v2"


def test_apply_creates_and_replaces_and_leaves_alone(client: MeshClient) -> None:
    first = client.apply(virtual_service("applied", "v1"))
    assert client.apply(virtual_service("applied", "v1")) == first
    assert subset_of(client.apply(virtual_service("applied", "v2"))) == "v2"


def test_lists_by_namespace_and_label(client: MeshClient) -> None:
    for name, tier in (("one", "front"), ("two", "back"), ("three", "back")):
        client.apply(virtual_service(f"listed-{name}", tier=tier, suite="list"))
    elsewhere = virtual_service("listed-else", suite="list")
    elsewhere["metadata"]["namespace"] = "other"
    client.apply(elsewhere)

    def names(namespace: str | None, **labels: str) -> list[str]:
        return [item["metadata"]["name"] for item in client.list("vs", namespace, labels=labels).items]

    assert names(None, suite="list") == ["listed-one", "listed-three", "listed-two", "listed-else"]
    assert names("default", suite="list", tier="back") == ["listed-three", "listed-two"]
    assert names("other", suite="list") == ["listed-else"]
    assert names("nowhere") == []


def test_any_served_version_reads_the_same_object(client: MeshClient, raw: Raw) -> None:
    written = virtual_service("versions") | {"apiVersion": "networking.istio.io/v1alpha3"}
    client.apply(written)
    for version in ("v1", "v1beta1", "v1alpha3"):
        path = f"/apis/networking.istio.io/{version}/namespaces/default/virtualservices/versions"
        code, found = raw.send("GET", path)
        assert (code, found["apiVersion"]) == (200, f"networking.istio.io/{version}")
    assert raw.send("GET", "/apis/networking.istio.io/v2/virtualservices")[0] == 404


def test_every_problem_of_an_object_is_told(client: MeshClient) -> None:
    broken = virtual_service("broken")
    broken["spec"]["htpp"] = []
    broken["spec"]["http"][0]["route"][0]["weight"] = "many"
    with pytest.raises(ApiError) as refused:
        client.apply(broken)
    assert (refused.value.status, refused.value.reason) == (422, "Invalid")
    fields = {cause.field for cause in refused.value.causes}
    assert {"spec.htpp", "spec.http[0].route[0].weight"} <= fields
    assert "VirtualService default/broken" in str(refused.value)


def test_a_rule_broken_is_told_too(client: MeshClient) -> None:
    negative = virtual_service("negative")
    negative["spec"]["http"][0]["route"][0]["weight"] = -1
    with pytest.raises(ApiError) as refused:
        client.create(negative)
    assert refused.value.status == 422
    assert any("weight" in cause.field for cause in refused.value.causes)


def test_a_dry_run_stores_nothing(client: MeshClient) -> None:
    before = client.list("vs").resource_version
    assert client.apply(virtual_service("dry"), dry_run=True)["metadata"]["name"] == "dry"
    client.create(virtual_service("dry"), dry_run=True)
    assert [item.action for item in client.apply_all([virtual_service("dry")], dry_run=True).items] == ["created"]
    assert client.list("vs").resource_version == before
    with pytest.raises(ApiError):
        client.apply(virtual_service("dry") | {"spec": {"hosts": 3}}, dry_run=True)


def test_a_transaction_is_all_or_nothing(client: MeshClient) -> None:
    broken = virtual_service("all-2") | {"spec": {"nonsense": 1}}
    with pytest.raises(ApiError) as refused:
        client.apply_all([virtual_service("all-1"), broken, service("all-3") | {"kind": "Servlet"}])
    assert refused.value.status == 422
    assert {cause.field.partition(".")[0] for cause in refused.value.causes} == {"[1]", "[2]"}
    with pytest.raises(ApiError, match="not found"):
        client.get("vs", "all-1")

    done = client.apply_all([virtual_service("all-1"), service("all-3")])
    assert [item.action for item in done.items] == ["created", "created"]
    assert done.resource_version == client.list("vs").resource_version
    again = client.apply_all([virtual_service("all-1", "v2"), service("all-3")])
    assert [item.action for item in again.items] == ["configured", "unchanged"]


def test_yaml_is_taken_where_yaml_is_said(raw: Raw, client: MeshClient) -> None:
    text = b"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: yaml}
spec:
  hosts: [yaml]
  http: [{route: [{destination: {host: yaml}}]}]
"""
    code, _ = raw.send("PATCH", f"{COLLECTION}/yaml", text, "application/apply-patch+yaml")
    assert code == 200
    assert client.get("vs", "yaml")["metadata"]["namespace"] == "default"
    code, status = raw.send("PATCH", f"{COLLECTION}/yaml", text + b"  hosts: [b]\n", "application/apply-patch+yaml")
    assert code == 422
    assert "given twice" in status["details"]["causes"][0]["message"]
    assert raw.send("PATCH", f"{COLLECTION}/yaml", b"{}", "application/merge-patch+json")[0] == 415


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "reason"),
    [
        ("GET", "/nowhere", None, 404, "NotFound"),
        ("GET", "/api/v1/gadgets", None, 404, "NotFound"),
        ("GET", "/apis/networking.istio.io/v1/virtualservices/unplaced", None, 404, "NotFound"),
        ("DELETE", COLLECTION, None, 405, "MethodNotAllowed"),
        ("POST", "/api/v1/pods", b"{}", 405, "MethodNotAllowed"),
        ("POST", COLLECTION, b"{", 400, "BadRequest"),
        ("POST", COLLECTION, b"[" * 100_000, 400, "BadRequest"),
        ("POST", COLLECTION, b"\xff\xfe", 400, "BadRequest"),
        ("POST", COLLECTION, b"[]", 400, "BadRequest"),
        ("POST", COLLECTION, b'{"kind": "\\ud800"}', 400, "BadRequest"),
        ("POST", COLLECTION, b'{"kind": "\xed\xa0\x80"}', 400, "BadRequest"),
        ("POST", COLLECTION, b'{"kind": NaN}', 400, "BadRequest"),
        ("POST", COLLECTION, b'{"kind": 1e999}', 400, "BadRequest"),
        ("POST", COLLECTION, b'{"kind": "A", "kind": "B"}', 400, "BadRequest"),
        ("POST", COLLECTION, b"null", 422, "Invalid"),
        ("POST", COLLECTION, json.dumps(service("other-kind")).encode(), 400, "BadRequest"),
        ("PUT", COLLECTION + "/another", json.dumps(virtual_service("name")).encode(), 400, "BadRequest"),
        ("POST", COLLECTION.replace("default", "other"), json.dumps(virtual_service("x")).encode(), 400, "BadRequest"),
        ("POST", COLLECTION + "?dryRun=Some", b"{}", 400, "BadRequest"),
        ("GET", COLLECTION + "?labelSelector=a%20in%20(b)", None, 400, "BadRequest"),
        ("GET", COLLECTION + "?watch=1&resourceVersion=abc", None, 400, "BadRequest"),
        ("GET", "/meshdrill/v1/sync?timeoutSeconds=nan", None, 400, "BadRequest"),
        ("GET", "/meshdrill/v1/sync?timeoutSeconds=1e9", None, 400, "BadRequest"),
    ],
)
def test_nonsense_is_refused_with_a_status(
    raw: Raw, *, method: str, path: str, body: bytes | None, code: int, reason: str
) -> None:
    answered, status = raw.send(method, path, body)
    assert (answered, status["kind"], status["code"], status["reason"]) == (code, "Status", code, reason), status
    assert status["message"]


def test_a_body_without_end_is_cut_short(raw: Raw) -> None:
    code, status = raw.send("POST", COLLECTION, b" " * (3 * 1024 * 1024 + 1))
    assert (code, status["reason"]) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer wrong", "Basic {token}", "Bearer {token}x", "Bearer \xff\xfe", "{token}"],
)
def test_without_the_token_nothing_is_told(raw: Raw, authorization: str) -> None:
    header = authorization.replace("{token}", raw.token)
    for method, path in (
        ("GET", COLLECTION),
        ("GET", "/metrics"),
        ("GET", "/nowhere"),
        ("POST", "/meshdrill/v1/apply"),
    ):
        code, status = raw.send(method, path, Authorization=header)
        assert (code, status["reason"]) == (401, "Unauthorized")
        assert raw.token not in json.dumps(status)


def test_health_needs_no_token(raw: Raw) -> None:
    assert raw.send("GET", "/livez", Authorization="") == (200, "ok")
    assert raw.send("GET", "/readyz", Authorization="") == (200, "ok")


def test_requests_are_counted(client: MeshClient) -> None:
    before = client.control_metrics().value("meshdrill_api_requests_total", method="DELETE", code="404")
    with pytest.raises(ApiError):
        client.delete("vs", "never-was")
    assert client.control_metrics().value("meshdrill_api_requests_total", method="DELETE", code="404") == before + 1


def test_a_strange_method_is_no_series_of_its_own(raw: Raw, client: MeshClient) -> None:
    code, _ = raw.send("PURGE", COLLECTION)
    assert code == 405
    metrics = client.control_metrics()
    assert metrics.value("meshdrill_api_requests_total", method="other", code="405") == 1
    assert metrics.value("meshdrill_api_requests_total", method="PURGE") == 0


def test_a_malformed_request_does_not_put_its_token_into_the_log(control: ControlProcess, raw: Raw) -> None:
    context = ssl.create_default_context(cafile=str(control.root_cert))
    with (
        socket.create_connection((control.address, API_PORT), 20) as plain,
        context.wrap_socket(plain, server_hostname=control.address) as connection,
    ):
        connection.sendall(f"GET / HTTP/1.1\r\nAuthorization: Bearer {raw.token}\x01\r\n\r\n".encode())
        assert connection.recv(100).split()[1] == b"400"
    assert raw.token not in control.log.read_text()


def test_the_client_is_fit_for_many_threads(client: MeshClient) -> None:
    def write(number: int) -> Manifest:
        return client.apply(virtual_service(f"thread-{number % 4}", f"v{number}", suite="threads"))

    with ThreadPoolExecutor(8) as pool:
        versions = [done["metadata"]["resourceVersion"] for done in pool.map(write, range(40))]
    assert len(set(versions)) == 40
    assert len(client.list("vs", labels={"suite": "threads"}).items) == 4
