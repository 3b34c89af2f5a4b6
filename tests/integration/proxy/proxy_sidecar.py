"""Starts the sidecar as its users do, and asks its admin pages."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.real_envoy import real_envoy

WAIT_S = 15.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_COMMANDS: dict[str, Callable[[], list[str]]] = {
    "python": lambda: [sys.executable, "-m", "mesh.proxy"],
    "envoy": lambda: [real_envoy(), "--disable-hot-restart", "--concurrency", "1"],
}


class Sidecar:
    """A running `python -m mesh.proxy`."""

    def __init__(self, process: asyncio.subprocess.Process, admin: int, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self._admin = admin

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    async def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        return await fetch(f"http://127.0.0.1:{self._admin}{path}", method)

    async def json(self, path: str) -> Any:
        return json.loads((await self.get(path))[1])

    async def stat(self, name: str) -> int:
        """A counter or gauge; 0 if there is none of that name."""
        found = re.search(rf"^{re.escape(name)}: (\d+)$", (await self.get("/stats"))[1], re.MULTILINE)
        return int(found[1]) if found else 0

    async def until(self, what: str, holds: Callable[[], Any]) -> None:
        """Wait until the awaitable that `holds` gives is true."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not await holds():  # noqa: ASYNC110 - another process has no event to wait on
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise AssertionError(f"never came true: {what}\n{self.log}") from error

    async def until_stat(self, name: str, value: int) -> None:
        async def holds() -> bool:
            return await self.stat(name) == value

        await self.until(f"{name} is {value}", holds)

    async def until_ready(self, state: str = "LIVE") -> None:
        async def holds() -> bool:
            return (await self.get("/ready"))[1] == f"{state}\n"

        await self.until(f"/ready says {state}", holds)


async def fetch(url: str, method: str = "GET") -> tuple[int, str]:
    """Status and body; status 0 where nobody answers."""

    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=WAIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    return await asyncio.to_thread(ask)


@asynccontextmanager
async def sidecar(
    folder: Path, bootstrap: dict[str, Any], *arguments: str, engine: str = "python"
) -> AsyncIterator[Sidecar]:
    """Run the sidecar (or `engine` envoy) in `folder` on `bootstrap`, to which an admin address is added."""
    admin = free_port()
    address = {"socket_address": {"address": "127.0.0.1", "port_value": admin}}
    (folder / "bootstrap.json").write_text(json.dumps({**bootstrap, "admin": {"address": address}}))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *_COMMANDS[engine](), "-c", "bootstrap.json", "-l", "debug", *arguments,
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    running = Sidecar(process, admin, folder)

    async def answers() -> bool:
        assert process.returncode is None, running.log
        return (await running.get("/ready"))[0] != 0

    try:
        await running.until("the admin page answers", answers)
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def children(pid: int) -> list[int]:
    """The worker processes of a sidecar."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ads_bootstrap(port: int, *, fetch_timeout: str = "15s", **cluster: Any) -> dict[str, Any]:
    """A bootstrap that takes everything from a control plane on `port`."""
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": fetch_timeout}
    back_off = {"base_interval": "0.05s", "max_interval": "0.2s"}
    http2 = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    return {
        "node": {"id": "sidecar~127.0.0.1~a.default~default.svc.cluster.local", "cluster": "a.default"},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [
                    {"envoy_grpc": {"cluster_name": "xds-grpc", "retry_policy": {"retry_back_off": back_off}}}
                ],
            },
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds-grpc",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "typed_extension_protocol_options": http2,
                    "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [endpoint]}]},
                    **cluster,
                }
            ]
        },
    }
