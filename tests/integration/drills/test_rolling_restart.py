"""Every workload of Bookinfo is restarted under load, as `kubectl rollout restart` does, and no request is lost."""

from __future__ import annotations

import threading
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from bookinfo_mesh import Bookinfo

from chaos.rollout import Rollout, await_done
from mesh.client import MeshClient

pytestmark = [pytest.mark.bookinfo]
CALLERS = 3
WITHIN_S = 60.0
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


class Load:
    """Callers that ask for the page again and again, over connections that they keep as long as they may."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        self.answers: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        connection = HTTPConnection(self._address, timeout=20.0)
        while not self._ends.is_set():
            try:
                connection.request("GET", "/productpage", headers={"end-user": "jason"})
                response = connection.getresponse()
                page = response.read()
            except OSError as error:
                self.answers.append(repr(error))
                connection.close()
                continue
            amiss = [line.strip() for line in page.splitlines() if b"Error fetching" in line or b"Sorry" in line]
            self.answers.append("whole" if response.status == 200 and not amiss else f"{response.status} {amiss}")
        connection.close()


def restart(client: MeshClient, name: str) -> None:
    """Change the template of a Deployment, and wait until its pods have followed."""
    before = client.get("Deployment", name, "default")
    rollout = Rollout.of(client, before)
    annotations = before["spec"]["template"]["metadata"].setdefault("annotations", {})
    annotations[RESTARTED_AT] = str(int(annotations.get(RESTARTED_AT, "0")) + 1)
    client.apply(before)
    await_done(client, [rollout], WITHIN_S)


@pytest.mark.parametrize("engine", ["bookinfo", pytest.param("envoy_bookinfo", marks=pytest.mark.envoy)])
def test_restarts_lose_no_request(engine: str, request: pytest.FixtureRequest) -> None:
    mesh: Bookinfo = request.getfixturevalue(engine)
    with mesh.client() as client, Load(mesh.url) as load:
        names = [each["metadata"]["name"] for each in client.list("Deployment", namespace="default").items]
        for name in names:
            if "gateway" not in name:
                restart(client, name)
    assert {"productpage-v1", "details-v1"} <= set(names)
    assert set(load.answers) == {"whole"}, [answer for answer in load.answers if answer != "whole"][:5]
