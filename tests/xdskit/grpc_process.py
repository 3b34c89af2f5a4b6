"""Starts `grpc_caller.py` as a pod's program, by the bootstrap that the pod's agent would write."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh.agent.grpc_bootstrap import grpc_bootstrap
from mesh.agent.settings import read_settings


def bootstrap(folder: Path, pod: str, address: str, ads_port: int) -> dict[str, Any]:
    """`folder` has the files of `Authority.write_files` in `secrets`."""
    environ = {
        "POD_NAME": pod,
        "POD_NAMESPACE": "default",
        "INSTANCE_IP": address,
        "SERVICE_ACCOUNT": "client",
        "CA_ADDR": "127.0.0.1:1",
        "DISCOVERY_ADDRESS": f"127.0.0.1:{ads_port}",
    }
    return grpc_bootstrap(read_settings(["proxy", "sidecar"], environ), folder)


@asynccontextmanager
async def caller(file: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs until the block ends; orders go to its stdin."""
    plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("grpc_caller.py")),
        env={**plain, "GRPC_XDS_BOOTSTRAP": str(file)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()
