"""The names of services over the API, asked with a pod's token as its DNS does."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from control_process import API_PORT, ControlProcess, pod, service

from mesh.client import MeshClient


class Names:
    """Asks with one token."""

    def __init__(self, control: ControlProcess, token: str) -> None:
        self._control = control
        self._token = token

    def ask(self, etag: str = "", timeout_s: str = "0") -> tuple[int, str, dict[str, list[str]]]:
        context = ssl.create_default_context(cafile=str(self._control.root_cert))
        connection = http.client.HTTPSConnection(self._control.address, API_PORT, context=context, timeout=60)
        headers = {"Authorization": f"Bearer {self._token}", **({"If-None-Match": etag} if etag else {})}
        connection.request("GET", f"/meshdrill/v1/names?timeoutSeconds={timeout_s}", headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        names = json.loads(body).get("names", {}) if body else {}
        return response.status, response.headers.get("ETag", ""), names


@pytest.fixture
def names(control: ControlProcess, client: MeshClient) -> Iterator[Names]:
    asking: dict[str, Any] = client.apply(pod("dns-abc", "default", "127.200.9.1"))
    yield Names(control, client.create_token("default", "default", "dns-abc", asking["metadata"]["uid"]).token)
    client.delete("pod", "dns-abc")


def known(names: Names, wanted: str, etag: str = "") -> tuple[str, list[str]]:
    """The table's ETag and the addresses of a name, once it is there."""
    while True:
        status, etag, table = names.ask(etag, "30")
        assert status == 200
        if wanted in table:
            return etag, table[wanted]


def test_a_service_s_name_leads_to_its_cluster_ip(client: MeshClient, names: Names) -> None:
    applied = client.apply(service("named"))
    etag, addresses = known(names, "named.default.svc.cluster.local")
    assert addresses == [applied["spec"]["clusterIP"]]
    assert names.ask(etag) == (304, etag, {})
    client.delete("service", "named")
    status, later, table = names.ask(etag, "30")
    assert (status, "named.default.svc.cluster.local" in table) == (200, False)
    assert later != etag


def test_whoever_waits_is_told_of_a_change(client: MeshClient, names: Names) -> None:
    _, etag, _ = names.ask()
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(names.ask, etag, "60")
        client.apply(service("late"))
        status, _, table = waiting.result()
    assert (status, "late.default.svc.cluster.local" in table) == (200, True)
    client.delete("service", "late")


def test_a_headless_service_s_name_leads_to_its_ready_pods(client: MeshClient, names: Names) -> None:
    headless = service("flat")
    headless["spec"] |= {"clusterIP": "None", "selector": {"app": "flat"}}
    client.apply(headless)
    for number, ready in ((1, "True"), (2, "True"), (3, "False")):
        member = pod(f"flat-{number}", "default", f"127.200.9.1{number}")
        member["metadata"]["labels"] = {"app": "flat"}
        member["status"]["conditions"] = [{"type": "Ready", "status": ready}]
        client.apply(member)
    etag, addresses = known(names, "flat-2.flat.default.svc.cluster.local")
    assert addresses == ["127.200.9.12"]
    assert known(names, "flat.default.svc.cluster.local")[1] == ["127.200.9.11", "127.200.9.12"]
    client.delete("pod", "flat-1")
    while "flat-1.flat.default.svc.cluster.local" in (answer := names.ask(etag, "30"))[2]:
        etag = answer[1]
    assert answer[2]["flat.default.svc.cluster.local"] == ["127.200.9.12"]


def test_other_questions_are_refused(control: ControlProcess, names: Names) -> None:
    assert names.ask(timeout_s="soon")[0] == 400
    assert Names(control, "not a token").ask()[0] == 401
