"""Plain requests of an app leave its sidecar as TLS to a server outside of the mesh: real Envoys and our own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.x509 import DNSName
from xdskit.mesh import objects
from xdskit.pki import Authority
from xdskit.serving import served
from xdskit.sidecar import free_block, sidecar

from mesh.xds.ads.status import SyncState

WAIT_S = 30.0
ENGINES = pytest.mark.parametrize("engine", ["python", pytest.param("envoy", marks=pytest.mark.envoy)])
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: client-0, labels: {{app: client}}}}
spec: {{serviceAccountName: client, containers: [{{name: istio-proxy}}]}}
status: {{phase: Running, podIP: {block}.1, conditions: [{{type: Ready, status: "True"}}]}}
"""
OUTSIDE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.example.com]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]
  resolution: {resolution}
  endpoints: [{{address: {address}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec:
  host: {name}.example.com
  trafficPolicy: {{tls: {tls}}}
"""


def credentials(authority: Authority, folder: Path) -> ssl.SSLContext:
    """Of a server that trusts the authority; the files are in the folder."""
    folder.mkdir()
    for name, content in zip(("key", "chain"), authority.issue(DNSName("api.example.com")), strict=True):
        (folder / name).write_bytes(content)
    (folder / "root").write_bytes(authority.root)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain", folder / "key")
    context.load_verify_locations(folder / "root")
    return context


@asynccontextmanager
async def server(authority: Authority, folder: Path, *, wants_client: bool = False) -> AsyncIterator[int]:
    """HTTP over TLS as `api.example.com`; it answers with the server's name that was asked for and who asks."""
    context = credentials(authority, folder)
    asked: list[str] = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        peer = writer.get_extra_info("peercert") or {}
        who = [value for _, value in peer.get("subjectAltName", ())]
        body = f"{asked[-1]} {','.join(who)}".encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    started = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield started.sockets[0].getsockname()[1]
    finally:
        started.close()


async def get(proxy: str, host: str) -> str:
    """Status and body of a plain request through the sidecar."""
    reader, writer = await asyncio.open_connection(proxy, 15080)
    writer.write(f"GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
    received = (await asyncio.wait_for(reader.read(), WAIT_S)).decode()
    writer.close()
    head, _, body = received.partition("\r\n\r\n")
    return f"{head.split()[1]} {body}"


@ENGINES
def test_the_sidecar_begins_tls(engine: str, tmp_path: Path) -> None:
    authority, others = Authority(), Authority()

    async def scenario() -> None:
        block = free_block()
        async with (
            server(others, tmp_path / "api") as port,
            server(others, tmp_path / "mutual", wants_client=True) as mutual,
        ):
            trust = f"caCertificates: {tmp_path}/api/root"
            own = f"clientCertificate: {tmp_path}/mutual/chain, privateKey: {tmp_path}/mutual/key"
            mutual_trust = f"caCertificates: {tmp_path}/mutual/root, sni: api.example.com"
            outside = [
                ("api", port, "STATIC", "127.0.0.1", f"{{mode: SIMPLE, {trust}}}"),
                ("impostor", port, "STATIC", "127.0.0.1", f"{{mode: SIMPLE, {trust}}}"),
                ("trusting", port, "DNS", "localhost", "{mode: SIMPLE, insecureSkipVerify: true}"),
                ("unknown", port, "STATIC", "127.0.0.1", f"{{mode: SIMPLE, caCertificates: {tmp_path}/mesh.pem}}"),
                ("mutual", mutual, "DNS_ROUND_ROBIN", "localhost", f"{{mode: MUTUAL, {own}, {mutual_trust}}}"),
            ]
            (tmp_path / "mesh.pem").write_bytes(authority.root)
            texts = [
                OUTSIDE.format(name=name, port=at, resolution=resolution, address=address, tls=tls)
                for name, at, resolution, address, tls in outside
            ]
            async with (
                served(authority, objects(POD.format(block=block), *texts)) as (ads, ads_port),
                sidecar(
                    authority,
                    engine,
                    tmp_path / "client",
                    pod="client-0",
                    address=f"{block}.1",
                    account="client",
                    ads_port=ads_port,
                ) as log,
            ):
                async with asyncio.timeout(WAIT_S):
                    while not ads.proxies():  # noqa: ASYNC110 - the server has no event for it
                        await asyncio.sleep(0.01)
                result = await ads.wait_synced(1, WAIT_S)
                assert result.state is SyncState.SYNCED, (result, log.read_text())
                ask = f"{block}.1"
                assert await get(ask, "api.example.com") == "200 api.example.com "
                assert (await get(ask, "impostor.example.com")).startswith("503 "), "the certificate is another's"
                assert await get(ask, "trusting.example.com") == "200 trusting.example.com "
                assert (await get(ask, "unknown.example.com")).startswith("503 "), "nobody vouches for it"
                assert await get(ask, "mutual.example.com") == "200 api.example.com api.example.com"

    asyncio.run(scenario())
