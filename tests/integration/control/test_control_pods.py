"""Pods through the client: who they are, and the pages of their sidecars."""

import http.server
import random
import threading
from collections.abc import Iterator

import pytest
from control_process import pod

from mesh.client import ApiError, MeshClient, MeshError, MeshNotRunning, Pod
from mesh.client.client import ADMIN_PORT, PROMETHEUS_PORT


class Sidecar(http.server.BaseHTTPRequestHandler):
    """The two pages that are asked for; everything else is not there."""

    def do_GET(self) -> None:
        pages = {
            "/stats/prometheus": 'istio_requests_total{reporter="destination",response_code="200"} 5\n',
            "/clusters?format=text": "outbound|9080||web::default_priority\n",
        }
        self._answer(pages.get(self.path))

    def do_POST(self) -> None:
        self._answer("OK\n" if self.path == "/quitquitquit" else None)

    def _answer(self, page: str | None) -> None:
        body = (page or "no such page").encode()
        self.send_response(200 if page else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def sidecar_ip() -> Iterator[str]:
    """The address of a pod whose sidecar answers."""
    ip = f"127.{random.randint(130, 250)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
    servers = [http.server.ThreadingHTTPServer((ip, port), Sidecar) for port in (ADMIN_PORT, PROMETHEUS_PORT)]
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}) for server in servers]
    for thread in threads:
        thread.start()
    yield ip
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


def test_pods_are_told_with_what_drills_ask_of_them(client: MeshClient) -> None:
    client.apply(pod("shown-1", "shown", "127.203.1.1"))
    waiting = pod("shown-2", "shown", "127.203.1.2", namespace="other")
    waiting["status"] = {"phase": "Pending"}
    client.apply(waiting)
    first, second = client.pods(labels={"app": "shown"})
    assert isinstance(first, Pod)
    assert (first.name, first.namespace, first.ip, first.phase) == ("shown-1", "default", "127.203.1.1", "Running")
    assert (first.ready, first.service_account, first.workload) == (True, "shown", "shown-1")
    assert (second.name, second.ready, second.ip) == ("shown-2", False, "")
    assert client.pods(labels={"app": "shown"}, namespace="other") == (second,)


def test_a_sidecars_pages_are_read_by_pod_or_name(client: MeshClient, sidecar_ip: str) -> None:
    client.apply(pod("paged-1", "paged", sidecar_ip, namespace="other"))
    (found,) = client.pods(labels={"app": "paged"})
    for named in (found, "paged-1.other"):
        assert client.metrics(named).value("istio_requests_total", reporter="destination") == 5
        assert client.admin(named, "/clusters?format=text").startswith("outbound|9080||web")
        assert client.admin(named, "/quitquitquit", "POST") == "OK\n"
    with pytest.raises(ApiError) as refused:
        client.admin(found, "/nothing")
    assert refused.value.status == 404


def test_what_cannot_be_read_is_said_plainly(client: MeshClient) -> None:
    client.apply(pod("silent-1", "silent", "127.203.1.3"))
    with pytest.raises(MeshNotRunning, match=r"the sidecar of pod silent-1\.default does not answer"):
        client.metrics("silent-1")
    unplaced = pod("unplaced-1", "unplaced", "")
    unplaced["status"] = {"phase": "Pending"}
    client.apply(unplaced)
    with pytest.raises(MeshError, match=r"unplaced-1\.default has no address yet \(phase Pending\)"):
        client.admin("unplaced-1", "/ready")
    with pytest.raises(ApiError, match="Pod default/nobody not found"):
        client.metrics("nobody")
