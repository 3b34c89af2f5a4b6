"""The control plane is killed under load: traffic goes on, it comes back with its configuration, sidecars with it."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
import requests
from bookinfo_mesh import Bookinfo, processes_of, until

from loadtests.plan import LoadPlan, Request
from loadtests.run import Load, LoadRun
from mesh.client import Manifest, MeshClient

pytestmark = pytest.mark.bookinfo
ENOUGH = 30


def only(version: str) -> Manifest:
    """All traffic of reviews to one version."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "reviews", "namespace": "default"},
        "spec": {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviews", "subset": version}}]}]},
    }


def versions(url: str, count: int = 10) -> set[str]:
    pages = [requests.get(f"{url}/api/v1/products/0/reviews", timeout=10) for _ in range(count)]
    return {page.json()["version"] for page in pages}


def control_plane(mesh: Bookinfo) -> int:
    """Its pid; 0 while there is none."""
    pids = [pid for pid, command in processes_of(mesh.state).items() if "-m mesh.control" in command]
    return pids[0] if len(pids) == 1 else 0


def all_synced(client: MeshClient, count: int) -> bool:
    proxies = client.proxies()
    return len(proxies) == count and all(proxy.is_synced for proxy in proxies)


def test_no_request_fails_and_all_is_as_before(bookinfo: Bookinfo, tmp_path: Path) -> None:
    plan = LoadPlan((Request("/productpage"),), pace_seconds=0.1)
    with bookinfo.client() as client:
        connected = len(client.proxies())
        client.wait_synced(client.apply(only("v1"))["metadata"]["resourceVersion"])
        try:
            with Load(LoadRun(bookinfo.url, users=2, plan=plan), tmp_path / "load") as load:
                answered = lambda: sum(1 for _ in load.events())  # noqa: E731
                until(lambda: answered() > ENOUGH, "load before")
                first = control_plane(bookinfo)
                os.kill(first, signal.SIGKILL)
                until(lambda: not client.is_ready(), "it is gone")
                until(lambda: control_plane(bookinfo) not in (0, first), "it is started again")
                client.wait_ready(30)
                assert client.get("VirtualService", "reviews")["spec"] == only("v1")["spec"]
                until(lambda: all_synced(client, connected), "every sidecar is back and synced")
                after = answered()
                until(lambda: answered() > after + ENOUGH, "load after")
                client.wait_synced(client.apply(only("v3"))["metadata"]["resourceVersion"])
                assert versions(bookinfo.url) == {"v3"}
            assert Counter(event.error or event.status for event in load.events()).keys() == {200}
        finally:
            client.wait_synced(client.delete("VirtualService", "reviews"))
