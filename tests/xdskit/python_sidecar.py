"""Our sidecar's compiler: does it accept what we compile?"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from envoy.config.core.v3.base_pb2 import Node
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.json_format import ParseDict

from mesh.proxy.operations.local_plane import LocalPlane
from mesh.proxy.resources import Refused, Resources
from mesh.xds.ads.catalog import ProxyConfig
from xdskit.mesh import assignments, clusters, listeners, routes
from xdskit.pki import Authority


def validate(config: ProxyConfig, folder: Path) -> str:
    """Its complaint about a proxy's resources; empty when it accepts them all."""
    resources = Resources(
        listeners=listeners(config),
        routes=routes(config),
        clusters=clusters(config),
        endpoints=assignments(config),
        secrets=_secrets(folder),
    )
    before = Path.cwd()
    os.chdir(folder)  # access logs are named relative to it
    try:
        return asyncio.run(_checked(resources))
    finally:
        os.chdir(before)


async def _checked(resources: Resources) -> str:
    plane = LocalPlane.of(Node(id="sidecar~127.0.0.1~a.b~b", cluster="a.b"), sys.stderr)
    try:
        await plane.check(resources)
    except Refused as refused:
        return str(refused)
    finally:
        await plane.close(0)
    return ""


def _secrets(folder: Path) -> dict[str, Secret]:
    Authority().write_secrets(folder / "secrets", "spiffe://cluster.local/ns/default/sa/test")
    found = {}
    for name in ("default", "ROOTCA"):
        (document,) = json.loads((folder / "secrets" / f"{name}.json").read_text())["resources"]
        document.pop("@type")
        found[name] = ParseDict(document, Secret())
    return found
