"""A sidecar whose listeners and clusters come from files, while clients keep asking and the files are replaced."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from proxy_sidecar import free_port, sidecar
from test_proxy_life import static

CLIENTS = 4
TYPES = {"listeners": "envoy.config.listener.v3.Listener", "clusters": "envoy.config.cluster.v3.Cluster"}


def write(folder: Path, port: int, body: str, clusters: int) -> None:
    """The files of one version: what the listener answers, and how many clusters there are."""
    config = static(port)["static_resources"]
    listener, cluster = config["listeners"][0], config["clusters"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    route = manager["route_config"]["virtual_hosts"][0]["routes"][0]
    route["direct_response"]["body"]["inline_string"] = body
    named = [{**cluster, "name": f"c{index}"} for index in range(clusters)]
    for kind, messages in {"listeners": [listener], "clusters": named}.items():
        resources = [{"@type": f"type.googleapis.com/{TYPES[kind]}", **each} for each in messages]
        fresh = folder / f".{kind}.fresh"
        fresh.write_text(json.dumps({"version_info": body, "resources": resources}))
        fresh.rename(folder / f"{kind}.json")


def bootstrap(folder: Path, port: int) -> dict[str, Any]:
    sources = {kind: {"path_config_source": {"path": str(folder / f"{kind}.json")}} for kind in TYPES}
    dynamic = {"lds_config": sources["listeners"], "cds_config": sources["clusters"]}
    return {"node": static(port)["node"], "dynamic_resources": dynamic}


class Load:
    """Clients that keep their connections as long as the sidecar lets them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.bodies: Counter[str] = Counter()
        self.lost: list[str] = []
        self.is_over = False

    async def client(self) -> None:
        while not self.is_over:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                while await self._ask(reader, writer) and not self.is_over:
                    pass
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(repr(error))
                return
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self.bodies[(await reader.readexactly(size)).decode()] += 1
        return b"connection: close" not in head


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_request_is_lost_while_files_are_replaced(tmp_path: Path, workers: str) -> None:
    async def scenario() -> None:
        port = free_port()
        write(tmp_path, port, "v0", 1)
        async with sidecar(tmp_path, bootstrap(tmp_path, port), "--concurrency", workers) as running:
            await running.until_ready()
            load = Load(port)
            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS):
                    group.create_task(load.client())
                for version, clusters in enumerate((500, 1, 500, 2), 1):
                    body = f"v{version}"
                    write(tmp_path, port, body, clusters)

                    async def served(body: str = body) -> bool:
                        return bool(load.lost) or load.bodies[body] >= 20

                    await running.until(f"{body} is served", served)
                load.is_over = True
            assert load.lost == []
            assert set(load.bodies) == {f"v{version}" for version in range(5)}
            _, stats = await running.get("/stats?filter=update_rejected")
            assert "listener_manager.lds.update_rejected: 0" in stats

    asyncio.run(scenario())
