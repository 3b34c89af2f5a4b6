"""The admin pages beside the real Envoy's: the same bootstrap, the same requests, one after the other."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from proxy_sidecar import WAIT_S, fetch, free_port
from test_proxy_life import static

from tests.real_envoy import real_envoy

OURS = [sys.executable, "-m", "mesh.proxy"]
Answers = dict[str, tuple[int, str]]

# Asked in this order, after one request through the listener.
SAME = (
    "GET /ready",
    "POST /ready",
    "GET /listeners",
    "GET /listeners?format=json",
    "GET /clusters",
    "GET /clusters?format=json",
    "GET /certs",
    "GET /quitquitquit",
    "GET /reset_counters",
    "GET /healthcheck/fail",
    "GET /logging",
    "GET /drain_listeners",
    "GET /stats?filter=(",
    "GET /stats?filter=upstream_rq_total$",
    "GET /stats?format=json&filter=upstream_rq_total$",
    "GET /stats?format=prometheus&filter=cluster.app.upstream_rq_(total|2xx|200)$",
    "GET /stats/prometheus?filter=downstream_rq_xx$",
    "GET /config_dump",
    "GET /config_dump?resource=static_clusters",
    "GET /config_dump?resource=dynamic_active_clusters",
    "GET /config_dump?resource=nope",
    "GET /config_dump?resource=bootstrap&mask=node.id",
    "GET /config_dump?resource=static_clusters&mask=cluster.name",
    "GET /config_dump?mask=bootstrap.node.id",
    "GET /config_dump?mask=static_route_configs",
    "GET /config_dump?mask=version_info,static_clusters",
    "GET /config_dump?mask=static_clusters.cluster",
    "GET /config_dump?mask=nope",
    "GET /config_dump?resource=static_clusters&mask=cluster",
    "GET /config_dump?resource=static_clusters&mask=cluster,last_updated",
    "GET /config_dump?resource=static_clusters&mask=cluster.nope",
    "GET /config_dump?resource=static_clusters&mask=cluster.name.nope",
    "GET /config_dump?resource=static_listeners&mask=listener.address,listener.name",
    "GET /config_dump?resource=dynamic_active_clusters&mask=cluster",
    "GET /config_dump?resource=static_listeners&name_regex=.*",
    "GET /config_dump?resource=static_listeners&name_regex=nobody",
    "GET /config_dump?name_regex=(",
    "GET /runtime",
    "POST /runtime_modify",
    "POST /runtime_modify?a=1",
    "GET /contention",
    "GET /init_dump",
    "GET /reopen_logs",
    "POST /reopen_logs",
    "GET /stats?type=nope",
    "GET /stats?type=TextReadouts",
    "GET /stats?type=&format=&histogram_buckets=&hidden=&filter=upstream_rq_total$",
    "GET /stats?hidden=nope",
    "GET /stats?hidden=nope&format=nope",
    "GET /stats?hidden=nope&type=nope&filter=(",
    "GET /stats?hidden=only",
    "GET /stats?hidden=only&format=json",
    "GET /stats?hidden=include&filter=upstream_rq_total$",
    "GET /stats/prometheus?hidden=nope",
    "GET /stats/prometheus?hidden=only",
    "GET /stats/prometheus?type=nope",
    "GET /stats/prometheus?histogram_buckets=disjoint",
    "GET /stats/prometheus?histogram_buckets=summary&filter=cluster.app.upstream_rq_timeout",
    "GET /stats?type=Histograms&filter=cluster.app.upstream_rq_timeout",
    "GET /stats?type=Counters&filter=cluster.app.upstream_rq_(2|act)",
    "GET /stats?type=Gauges&filter=cluster.app.upstream_rq_(2|act)",
    "POST /healthcheck/fail",
    "GET /ready",
    "POST /healthcheck/ok",
    "POST /reset_counters",
    "GET /stats?filter=cluster.app.upstream_rq_total$",
)


# Asked before them, and compared by name only.
EVERY, USED = "GET /stats", "GET /stats?usedonly"
# Stats that Envoy has used after one request, and ours has not, each with why.
LEFT_OUT = {
    r"cluster\.\w+\.(external|internal)\.": "the same numbers again, by who asked; ours has their sum",
    r"cluster\.\w+\.default\.total_match_count": "how often a transport socket was chosen",
    r"cluster\.\w+\.upstream_cx_(rx|tx)_bytes_buffered": "buffers are the event loop's",
    r"http\.\w+\.downstream_cx_(rx|tx)_bytes_buffered": "buffers are the event loop's",
    r"listener\.[\w.]+\.http\.": "the same numbers again, by listener",
    r"listener\.[\w.]+\.(worker_\d+\.|connections_accepted_per_socket_event|downstream_cx_length_ms)": "by thread",
    r"(http|listener)\.admin\.": "the admin listener is no listener of the data path",
    r"(http|cluster)\.\w+\.(down|up)stream_cx_destroy_(local|remote)": "who closed first is not told apart",
    r"cluster\.\w+\.circuit_breakers\.\w+\.cx_pool_open": "there is no limit of pools",
    r"cluster\.\w+\.(max_host_weight|version|warming_state|lb_subsets_active|upstream_queue_overloaded)": "of no use",
    r"runtime\.": "layers are read once",
    r"server\.(version|initialization_time|stats_recent|compilation|hot_restart_gen|wip)": "of Envoy's own build",
    r"thread_local_cluster_manager\.|workers\.|main_thread\.|filesystem\.": "of Envoy's threads",
}


@asynccontextmanager
async def running(command: list[str], path: Path, admin: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *command, "-c", str(path), "--concurrency", "1", stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        async with asyncio.timeout(WAIT_S):
            while (await fetch(f"http://127.0.0.1:{admin}/ready"))[1] != "LIVE\n":  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        yield
    finally:
        process.kill()
        await process.wait()


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello")
    await writer.drain()
    writer.close()


async def asked(command: list[str], folder: Path, requests: tuple[str, ...]) -> Answers:
    """What the proxy that `command` starts answers; ports are written as 11111 and 22222."""
    upstream = await asyncio.start_server(hello, "127.0.0.1", 0)
    to = upstream.sockets[0].getsockname()[1]
    port, admin = free_port(), free_port()
    address = {"socket_address": {"address": "127.0.0.1", "port_value": admin}}
    path = folder / "bootstrap.json"
    path.write_text(json.dumps({**static(port, to), "admin": {"address": address}}))
    answers: Answers = {}
    async with upstream, running(command, path, admin):
        assert await fetch(f"http://127.0.0.1:{port}/") == (200, "hello")
        for number, request in enumerate(requests):
            method, _, target = request.partition(" ")
            status, body = await fetch(f"http://127.0.0.1:{admin}{target}", method)
            body = body.replace(str(port), "11111").replace(str(to), "22222")
            answers[f"{number} {request}"] = status, body
    return answers


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Answers, Answers]:
    command = [real_envoy(), "--disable-hot-restart"]
    return (
        asyncio.run(asked(OURS, tmp_path_factory.mktemp("ours"), (EVERY, USED, *SAME))),
        asyncio.run(asked(command, tmp_path_factory.mktemp("envoy"), (EVERY, USED, *SAME))),
    )


@pytest.mark.envoy
@pytest.mark.parametrize("request_", [f"{number} {request}" for number, request in enumerate(SAME, 2)])
def test_the_page_says_what_envoys_says(both: tuple[Answers, Answers], request_: str) -> None:
    ours, envoys = both
    assert (ours[request_][0], comparable(ours[request_][1])) == (envoys[request_][0], comparable(envoys[request_][1]))


@pytest.mark.envoy
def test_what_envoy_counts_is_counted(both: tuple[Answers, Answers]) -> None:
    """By the names that Envoy has used; what is left out is listed."""
    ours, envoys = both
    missing = names(envoys[f"1 {USED}"][1]) - names(ours[f"0 {EVERY}"][1])
    left = [name for name in sorted(missing) if not any(re.match(pattern, name) for pattern in LEFT_OUT)]
    assert left == [], left


def names(page: str) -> set[str]:
    return {line.partition(": ")[0] for line in page.splitlines()}


def comparable(body: str) -> Any:
    """Without the order of lines, and the counters that Envoy keeps of its admin listener."""
    if body.startswith("{"):
        tree = json.loads(body)
        return dump(tree["configs"]) if "configs" in tree else tree
    body = re.sub(r"goo\.gle/\w+ *", "", body)  # which says that the text of a message may change
    return sorted(line for line in body.splitlines() if "admin" not in line)


def dump(configs: list[Any]) -> dict[str, Any]:
    """A configuration dump by type, without times, the bootstrap (which Envoy fills with its extensions), and the
    empty parts that one writes and the other leaves out."""
    kept = {}
    for config in configs:
        parts = {name: part for name, part in config.items() if part and name != "@type"}
        if parts and not config["@type"].endswith("BootstrapConfigDump"):
            kept[config["@type"]] = timeless(parts)
    return kept


def timeless(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: timeless(value) for name, value in tree.items() if name != "last_updated"}
    return [timeless(value) for value in tree] if isinstance(tree, list) else tree
