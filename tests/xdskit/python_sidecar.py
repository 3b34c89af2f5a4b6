"""Our sidecar's compiler: does it accept what we compile?"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from cryptography.x509 import DNSName
from envoy.config.core.v3.base_pb2 import Node
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.json_format import ParseDict

from mesh.proxy.operations.local_plane import LocalPlane
from mesh.proxy.resources import Refused, Resources
from mesh.xds.ads.catalog import ProxyConfig
from xdskit.mesh import assignments, clusters, listeners, routes, secrets
from xdskit.pki import Authority


def validate(config: ProxyConfig, folder: Path) -> str:
    """Its complaint about a proxy's resources; empty when it accepts them all."""
    resources = Resources(
        listeners=listeners(config),
        routes=routes(config),
        clusters=clusters(config),
        endpoints=assignments(config),
        secrets=_secrets(folder) | _sent(config),
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


def _sent(config: ProxyConfig) -> dict[str, Secret]:
    """What SDS brings, with a real key and real certificates in place of the case's."""
    found, authority = secrets(config), Authority()
    for secret in found.values():
        if secret.HasField("tls_certificate"):
            key, chain = authority.issue(DNSName("a.example.com"))
            secret.tls_certificate.private_key.inline_bytes = key
            secret.tls_certificate.certificate_chain.inline_bytes = chain
        else:
            secret.validation_context.trusted_ca.inline_bytes = authority.root
    return found


def _secrets(folder: Path) -> dict[str, Secret]:
    authority = Authority()
    authority.write_secrets(folder / "secrets", "spiffe://cluster.local/ns/default/sa/test")
    authority.write_pem(folder / "secrets")
    found = {}
    for name in ("default", "ROOTCA"):
        (document,) = json.loads((folder / "secrets" / f"{name}.json").read_text())["resources"]
        document.pop("@type")
        found[name] = ParseDict(document, Secret())
    return found
