"""How much a metric grew, against a real metrics page of a pod."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from chaos.checks import MetricIncrease
from chaos.checks.base import Context
from chaos.decode import Seconds
from chaos.errors import CannotMeasure
from chaos.verdict import Outcome
from mesh.client import MeshClient, Pod

PORT = 15090
LABELS = {"response_code": "503"}


class Proxy:
    """A pod's metrics page; each scrape of it shows the next of `counts`, and the last one from then on."""

    def __init__(self) -> None:
        self.counts = [0]
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                count = proxy.counts.pop(0) if len(proxy.counts) > 1 else proxy.counts[0]
                page = f'requests_total{{response_code="503"}} {count}\nrequests_total{{response_code="200"}} 7\n'
                self.send_response(200)
                self.send_header("content-length", str(len(page)))
                self.end_headers()
                self.wfile.write(page.encode())

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = _free(Handler)
        self.pod = Pod.from_manifest(
            {
                "metadata": {"name": "pod", "namespace": "default", "uid": "u1"},
                "status": {
                    "podIP": self.server.server_address[0],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
        )


def _free(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """On the port that all pods have, at an address of its own."""
    while True:
        address = f"127.{random.randint(160, 250)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
        try:
            return ThreadingHTTPServer((address, PORT), handler)
        except OSError:
            continue


class Mesh(MeshClient):
    """The client, with pods of the test's own instead of the API's."""

    def __init__(self, folder: Path, pods: list[Pod]) -> None:
        super().__init__("https://127.0.0.1:1", folder / "token", folder / "root")
        self.present = pods

    def pods(self, *, labels: Mapping[str, str] = {}, namespace: str | None = None) -> tuple[Pod, ...]:
        return tuple(self.present)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    thread = threading.Thread(target=proxy.server.serve_forever, args=(0.01,))
    thread.start()
    yield proxy
    proxy.server.shutdown()
    proxy.server.server_close()
    thread.join()


@pytest.fixture
def mesh(proxy: Proxy, tmp_path: Path) -> Mesh:
    return Mesh(tmp_path, [proxy.pod])


@pytest.fixture
def context(mesh: Mesh) -> Context:
    return Context(mesh, "http://127.0.0.1:1", "seed", lambda _: None)


def check(at_least: int, at_most: int | None, **fields: object) -> MetricIncrease:
    made = MetricIncrease("m", {}, "requests_total", LABELS, at_least, at_most, Seconds(0.2), Seconds(0.01))
    return replace(made, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("counts", "bounds", "end"),
    [
        ([5, 5, 7, 13], (8, 8), (Outcome.HELD, 8)),
        ([5, 13, 14], (8, 8), (Outcome.VIOLATED, 9)),
        ([5, 12], (8, None), (Outcome.VIOLATED, 7)),
        ([5, 50], (8, None), (Outcome.HELD, 45)),
        ([5], (0, 0), (Outcome.HELD, 0)),
        ([5, 5, 6], (0, 0), (Outcome.VIOLATED, 1)),
    ],
)
def test_growth_is_judged_by_its_bounds(
    proxy: Proxy, context: Context, counts: list[int], bounds: tuple[int, int | None], end: tuple[Outcome, int]
) -> None:
    proxy.counts = counts
    verdict = check(*bounds).begin(context)()
    assert (verdict.outcome, verdict.evidence["increase"]) == end


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"metric": "request_total"}, "has counted request_total at all"),
        ({"labels": {"response_cod": "503"}}, "has no label response_cod"),
    ],
)
def test_what_was_never_counted_satisfies_no_upper_bound(
    context: Context, fields: dict[str, object], reason: str
) -> None:
    judge = check(0, 0, **fields).begin(context)
    with pytest.raises(CannotMeasure, match=reason):
        judge()


def test_a_proxy_that_started_anew_leaves_nothing_measured(proxy: Proxy, context: Context) -> None:
    proxy.counts = [9, 2]
    judge = check(1, None).begin(context)
    with pytest.raises(CannotMeasure, match="fell by 7: its proxy started anew"):
        judge()


def test_a_pod_that_was_replaced_leaves_nothing_measured(mesh: Mesh, proxy: Proxy, context: Context) -> None:
    judge = check(1, None).begin(context)
    mesh.present = [replace(proxy.pod, uid="u2")]
    with pytest.raises(CannotMeasure, match=r"1 of the pods .* went away"):
        judge()


def test_without_a_ready_pod_nothing_is_measured(mesh: Mesh, proxy: Proxy, context: Context) -> None:
    mesh.present = [replace(proxy.pod, ready=False)]
    with pytest.raises(CannotMeasure, match="no ready pod"):
        check(1, None).begin(context)
