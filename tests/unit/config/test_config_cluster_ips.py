"""Cluster IPs: each Service has one of its own, for as long as it lives."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from mesh.config.cluster_ips import DEFAULT_RANGE
from mesh.config.database import Database
from mesh.config.decode import Manifest, decode_object
from mesh.config.keys import Key, key_of
from mesh.config.problems import InvalidError
from mesh.config.store import Store
from mesh.config.validate import validate


def service(name: str, **spec: Any) -> Manifest:
    return decode_object(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"ports": [{"name": "http", "port": 80}], **spec},
        }
    )


def fault(*laid: Manifest, name: str = "f") -> Manifest:
    return decode_object(
        {
            "apiVersion": "meshdrill.dev/v1alpha1",
            "kind": "Fault",
            "metadata": {"name": name},
            "spec": {"leaseSeconds": 15, "resources": [dict(own.raw) for own in laid]},
        }
    )


def address(store: Store, name: str) -> str | None:
    found = store.get(Key("Service", "default", name))
    shown = found.raw["spec"].get("clusterIP")
    assert found.resource == decode_object(found.raw).resource
    return shown if shown is None else str(shown)


def test_each_service_gets_an_address_of_its_own() -> None:
    store = Store()
    store.apply_all([service(f"s{number}") for number in range(300)])
    found = {address(store, f"s{number}") for number in range(300)}
    assert len(found) == 300
    assert all(IPv4Address(own) in DEFAULT_RANGE for own in found if own is not None)


def test_an_address_stays_through_edits_and_restarts(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    first = store.apply(service("reviews"))
    assert store.apply(service("reviews")) == first, "what says nothing new changes nothing"
    store.apply(service("reviews", selector={"app": "reviews"}))
    assert address(store, "reviews") == first.raw["spec"]["clusterIP"]
    store.close()
    again = Store(tmp_path / "store.db")
    assert address(again, "reviews") == first.raw["spec"]["clusterIP"]
    again.close()


def test_a_user_may_choose_one_that_is_free() -> None:
    store = Store()
    store.apply(service("chosen", clusterIP="10.96.0.7"))
    assert address(store, "chosen") == "10.96.0.7"
    with pytest.raises(InvalidError, match=r"10.96.0.7 is the cluster IP of Service default/chosen already") as refused:
        store.apply(service("other", clusterIP="10.96.0.7"))
    assert refused.value.problems[0].path == "spec.clusterIP"
    store.delete(Key("Service", "default", "chosen"))
    store.apply(service("other", clusterIP="10.96.0.7"))
    assert address(store, "other") == "10.96.0.7"


def test_headless_services_and_aliases_have_none() -> None:
    store = Store()
    store.apply(service("headless", clusterIP="None"))
    store.apply(service("alias", type="ExternalName", externalName="example.com"))
    assert (address(store, "headless"), address(store, "alias")) == ("None", None)


def test_what_is_no_address_is_refused() -> None:
    assert [problem.path for problem in validate(service("a", clusterIP="fe80::1"))] == ["spec.clusterIP"]
    assert [problem.path for problem in validate(service("a", clusterIP="none"))] == ["spec.clusterIP"]
    assert not validate(service("a", clusterIP="None"))


def test_a_range_that_is_used_up_is_said_so() -> None:
    store = Store(cluster_ips=IPv4Network("10.0.0.0/28"))
    names = [f"s{number}" for number in range(14)]
    store.apply_all([service(name) for name in names])
    assert {address(store, name) for name in names} == {f"10.0.0.{last}" for last in range(1, 15)}
    with pytest.raises(InvalidError, match=r"no address is left of 10.0.0.0/28"):
        store.apply(service("one-more"))
    store.delete(Key("Service", "default", "s3"))
    store.apply(service("one-more"))


def test_a_fault_s_service_has_the_address_of_the_one_beneath() -> None:
    store = Store()
    store.apply(service("reviews"))
    before = address(store, "reviews")
    store.apply(fault(service("reviews", selector={"app": "other"}), service("extra")))
    assert address(store, "reviews") == before
    extra = address(store, "extra")
    assert extra not in (None, before)
    store.apply(fault(service("reviews", selector={"app": "other"}), service("extra")))
    assert address(store, "extra") == extra, "a renewed lease keeps it"
    store.apply(service("extra"))
    assert address(store, "extra") == extra, "and so does the Service that takes its place"


def test_services_of_a_store_that_knew_no_addresses_get_them(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.db")
    metadata = {"name": "old", "namespace": "default", "resourceVersion": "1", "uid": "u", "generation": 1}
    raw = {**service("old").raw, "metadata": metadata}
    database.commit({key_of(service("old")): raw}, 1)
    database.close()
    store = Store(tmp_path / "store.db")
    given = address(store, "old")
    assert given is not None
    store.close()
    again = Store(tmp_path / "store.db")
    assert (address(again, "old"), again.version) == (given, 2)
    again.close()
