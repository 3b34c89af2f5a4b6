"""ServiceEntries among services: who speaks for a host, and which addresses it has."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from xdskit.mesh import Mesh, objects

from mesh.api.meta import Resource
from mesh.registry.entries import AUTO_ADDRESSES
from mesh.registry.types import Service
from mesh.snapshot.names import name_table


def entry(name: str, host: str, at: int = 1, namespace: str = "default", **spec: Any) -> Resource:
    lines = {"ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "DNS", **spec}
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": f"2026-01-01T00:00:{at:02}Z"}
    (made,) = objects(
        f"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {metadata}\nspec: {{hosts: ['{host}'], "
        + ", ".join(f"{key}: {value!r}" for key, value in lines.items())
        + "}"
    )
    return made


def found(mesh: Mesh, host: str) -> Service | None:
    return mesh.catalog.snapshot.services.get(host)


def names(mesh: Mesh, namespace: str = "default") -> dict[str, list[str]]:
    return name_table(mesh.catalog.snapshot, namespace)


def owner(mesh: Mesh, host: str) -> str:
    service = found(mesh, host)
    assert service is not None
    return service.name


def test_of_two_for_one_host_the_older_counts_until_it_goes() -> None:
    old, new = entry("old", "a.example.com", 1), entry("new", "a.example.com", 2)
    mesh = Mesh([new])
    assert owner(mesh, "a.example.com") == "new"
    mesh.change([old])
    assert owner(mesh, "a.example.com") == "old"
    mesh.change([], [old])
    assert owner(mesh, "a.example.com") == "new"
    mesh.change([], [new])
    assert found(mesh, "a.example.com") is None


def test_a_service_of_kubernetes_counts_before_any_entry() -> None:
    host = "web.default.svc.cluster.local"
    mesh = Mesh([entry("old", host)])
    service = objects(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, creationTimestamp: '2026-02-01T00:00:00Z'}\n"
        "spec: {clusterIP: 10.96.0.4, ports: [{name: http, port: 80}]}"
    )
    mesh.change(service)
    assert owner(mesh, host) == "web"
    assert names(mesh) == {host: ["10.96.0.4"]}


def test_a_host_that_an_entry_no_longer_names_is_gone() -> None:
    mesh = Mesh([entry("one", "a.example.com")])
    mesh.change([entry("one", "b.example.com")])
    assert found(mesh, "a.example.com") is None
    assert owner(mesh, "b.example.com") == "one"


def test_hosts_that_can_be_asked_for_have_addresses_of_their_own() -> None:
    mesh = Mesh([entry(f"e{number}", f"h{number}.example.com") for number in range(200)])
    table = names(mesh)
    addresses = {address for found in table.values() for address in found}
    assert len(table) == len(addresses) == 200
    assert all(IPv4Address(address) in AUTO_ADDRESSES for address in addresses)
    before = table["h7.example.com"]
    mesh.change([entry("e7", "h7.example.com", ports=[{"number": 81, "name": "http", "protocol": "HTTP"}])])
    assert names(mesh)["h7.example.com"] == before


def test_given_addresses_stand_and_what_has_no_name_has_none() -> None:
    given = entry("given", "a.example.com", addresses=["10.0.0.2", "10.0.0.1"])
    wild = entry("wild", "*.example.com", resolution="NONE")
    unresolved = entry("unresolved", "b.example.com", resolution="NONE")
    assert names(Mesh([given, wild, unresolved])) == {"a.example.com": ["10.0.0.1", "10.0.0.2"]}


def test_what_is_not_exported_has_no_name_elsewhere() -> None:
    mesh = Mesh([entry("private", "a.example.com", namespace="other", exportTo=["."])])
    assert names(mesh) == {}
    assert list(names(mesh, "other")) == ["a.example.com"]


def test_pods_that_an_entry_selects_are_its_endpoints() -> None:
    selecting = entry("s", "a.example.com", resolution="STATIC", workloadSelector={"labels": {"app": "a"}})
    pod = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a-1, labels: {app: a}}\n"
        "spec: {serviceAccountName: acc, containers: [{name: a}]}\n"
        "status: {phase: Running, podIP: 127.64.3.1, conditions: [{type: Ready, status: 'True'}]}"
    )
    mesh = Mesh([selecting, *objects(pod)])
    snapshot = mesh.catalog.snapshot
    assert [(own.port, own.workload.name) for own in snapshot.endpoints["a.example.com"]] == [(80, "a-1")]
    assert snapshot.accounts["a.example.com"] == ("acc",)
