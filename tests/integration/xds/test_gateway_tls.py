"""TLS at a gateway, of both engines, by real clients: terminated, mutual, passed on; and keys that change."""

from __future__ import annotations

import asyncio
import json
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import DNSName
from xdskit.mesh import objects
from xdskit.pki import Authority
from xdskit.serving import served
from xdskit.sidecar import free_block, sidecar

from mesh.api.meta import Resource
from mesh.xds.ads.server import DiscoveryServer
from mesh.xds.ads.status import SyncState

WAIT_S = 30.0
ENGINES = pytest.mark.parametrize("engine", ["python", pytest.param("envoy", marks=pytest.mark.envoy)])
PROTOCOLS = pytest.mark.parametrize("api_type", ["GRPC", "DELTA_GRPC"])
MESH = """
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: {http}}}, {{name: tls, port: {tls}}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web-0, labels: {{app: web}}}}
spec: {{containers: [{{name: web, ports: [{{containerPort: {http}}}, {{containerPort: {tls}}}]}}]}}
status: {{phase: Running, podIP: {block}.2, conditions: [{{type: Ready, status: "True"}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: edge-0, labels: {{app: edge}}}}
spec: {{serviceAccountName: edge, containers: [{{name: istio-proxy}}]}}
status: {{phase: Running, podIP: {block}.1, conditions: [{{type: Ready, status: "True"}}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{app: edge}}
  servers:
  - port: {{number: 8080, name: http, protocol: HTTP}}
    hosts: [shop.example.com]
    tls: {{httpsRedirect: true}}
  - port: {{number: 9080, name: https, protocol: HTTPS}}
    hosts: [shop.example.com]
    tls: {{mode: SIMPLE, credentialName: shop, minProtocolVersion: TLSV1_3}}
  - port: {{number: 9080, name: https-staff, protocol: HTTPS}}
    hosts: [staff.example.com]
    tls: {{mode: MUTUAL, credentialName: staff}}
  - port: {{number: 9080, name: tls-raw, protocol: TLS}}
    hosts: [raw.example.com]
    tls: {{mode: PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web}}
spec:
  hosts: [shop.example.com, staff.example.com, raw.example.com]
  gateways: [edge]
  http: [{{route: [{{destination: {{host: web, port: {{number: {http}}}}}}}]}}]
  tls:
  - match: [{{sniHosts: [raw.example.com]}}]
    route: [{{destination: {{host: web, port: {{number: {tls}}}}}}}]
"""


async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers one request with `hello`."""
    while (await reader.readline()) not in (b"\r\n", b""):
        pass
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello")
    writer.close()


def secret(name: str, pair: tuple[bytes, bytes], trust: bytes = b"") -> list[Resource]:
    key, chain = pair
    data = {"tls.crt": chain, "tls.key": key, **({"ca.crt": trust} if trust else {})}
    encoded = json.dumps({entry: b64encode(value).decode() for entry, value in data.items()})
    head = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\n"
    return objects(f"{head}data: {encoded}")


def trusting(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.root.decode())
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def presenting(authority: Authority, issuer: Authority, folder: Path) -> ssl.SSLContext:
    """A client that trusts `authority`, with a certificate of `issuer`."""
    context = trusting(authority)
    load(context, issuer.issue(DNSName("alice.example.com")), folder)
    return context


def load(context: ssl.SSLContext, pair: tuple[bytes, bytes], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in zip(("key", "chain"), pair, strict=True):
        (folder / name).write_bytes(content)
    context.load_cert_chain(folder / "chain", folder / "key")


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """What a proxy has taken may be in force a moment later."""
    async with asyncio.timeout(WAIT_S):
        while not await is_so():  # noqa: ASYNC110 - proxies have no event for it
            await asyncio.sleep(0.05)


@dataclass
class Edge:
    """The gateway, and what it has been told."""

    server: DiscoveryServer
    address: str
    log: Path
    version: int = 1

    async def apply(self, there: list[Resource], gone: list[Resource] | None = None) -> None:
        self.version += 1
        self.server.change(there, gone or [], self.version)
        result = await self.server.wait_synced(self.version, WAIT_S)
        assert result.state is SyncState.SYNCED, (result, self.log.read_text())

    async def connect(
        self, context: ssl.SSLContext | None, name: str, port: int = 9080
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        server_hostname = name if context is not None else None
        async with asyncio.timeout(WAIT_S):
            return await asyncio.open_connection(self.address, port, ssl=context, server_hostname=server_hostname)

    async def get(self, context: ssl.SSLContext | None, name: str, port: int = 9080, path: str = "/") -> str:
        """The whole answer, and nothing where the gateway will not have it."""
        try:
            reader, writer = await self.connect(context, name, port)
        except ssl.SSLCertVerificationError:
            raise
        except OSError:
            return ""
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n".encode())
            async with asyncio.timeout(WAIT_S):
                return (await reader.read()).decode()
        except OSError:
            return ""
        finally:
            writer.close()

    async def serves(self, context: ssl.SSLContext, name: str) -> bool:
        return (await self.get(context, name)).endswith("hello")

    async def refuses(self, context: ssl.SSLContext, name: str) -> bool:
        return not await self.get(context, name)

    async def shows(self, context: ssl.SSLContext, name: str, pair: tuple[bytes, bytes]) -> bool:
        """Whether a new connection is shown this certificate."""
        _, writer = await self.connect(context, name)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return bool(shown == x509.load_pem_x509_certificate(pair[1]).public_bytes(Encoding.DER))


@asynccontextmanager
async def edge(engine: str, folder: Path, api_type: str, behind: Authority) -> AsyncIterator[Edge]:
    """A gateway with a web server behind it, which also serves TLS of its own with certificates of `behind`."""
    block, authority = free_block(), Authority()
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load(own, behind.issue(DNSName("raw.example.com")), folder)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(await asyncio.start_server(app, f"{block}.2", 0))
        tls = await stack.enter_async_context(await asyncio.start_server(app, f"{block}.2", 0, ssl=own))
        ports = {"http": http.sockets[0].getsockname()[1], "tls": tls.sockets[0].getsockname()[1]}
        mesh = objects(MESH.format(block=block, **ports))
        server, port = await stack.enter_async_context(served(authority, mesh))
        pod = {"pod": "edge-0", "address": f"{block}.1", "account": "edge", "role": "router", "api_type": api_type}
        log = await stack.enter_async_context(sidecar(authority, engine, folder / "edge", **pod, ads_port=port))
        async with asyncio.timeout(WAIT_S):
            while not server.proxies():  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.05)
        yield Edge(server, f"{block}.1", log)


@PROTOCOLS
@ENGINES
def test_each_mode_serves_its_own_clients(engine: str, api_type: str, tmp_path: Path) -> None:
    public, clients, behind, stranger = Authority(), Authority(), Authority(), Authority()

    async def scenario() -> None:
        async with edge(engine, tmp_path, api_type, behind) as gateway:
            # Without keys the other servers of the port serve, and the rest is closed.
            await gateway.apply([])
            await until(lambda: gateway.serves(trusting(behind), "raw.example.com"))
            assert await gateway.get(trusting(public), "shop.example.com") == ""

            shop = public.issue(DNSName("shop.example.com"))
            staff = public.issue(DNSName("staff.example.com"))
            await gateway.apply([*secret("shop", shop), *secret("staff", staff, clients.root)])
            await until(lambda: gateway.serves(trusting(public), "shop.example.com"))
            redirect = await gateway.get(None, "shop.example.com", 8080, "/a")
            assert redirect.startswith("HTTP/1.1 301")
            assert "location: https://shop.example.com/a" in redirect
            old = trusting(public)
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            assert await gateway.get(old, "shop.example.com") == ""

            mine = presenting(public, clients, tmp_path / "mine")
            theirs = presenting(public, stranger, tmp_path / "theirs")
            assert "hello" in await gateway.get(mine, "staff.example.com")
            assert await gateway.get(theirs, "staff.example.com") == ""
            assert await gateway.get(trusting(public), "staff.example.com") == ""

            # What is passed on keeps the backend's own certificate.
            assert "hello" in await gateway.get(trusting(behind), "raw.example.com")
            with pytest.raises(ssl.SSLCertVerificationError):
                await gateway.get(trusting(public), "raw.example.com")
            assert await gateway.get(trusting(public), "other.example.com") == ""

    asyncio.run(scenario())


@PROTOCOLS
@ENGINES
def test_keys_change_under_open_connections_and_are_shown_to_nobody(engine: str, api_type: str, tmp_path: Path) -> None:
    public = Authority()

    async def scenario() -> None:
        async with edge(engine, tmp_path, api_type, public) as gateway:
            first, second = (public.issue(DNSName("shop.example.com")) for _ in range(2))
            client = trusting(public)
            await gateway.apply(secret("shop", first))
            await until(lambda: gateway.serves(client, "shop.example.com"))
            assert await gateway.shows(client, "shop.example.com", first)
            reader, writer = await gateway.connect(client, "shop.example.com")

            await gateway.apply(secret("shop", second))
            await until(lambda: gateway.shows(client, "shop.example.com", second))
            writer.write(b"GET / HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n\r\n")
            assert b"hello" in await reader.read()
            writer.close()

            dump = await gateway.get(None, "admin", 15000, "/config_dump")
            assert "kubernetes://shop" in dump
            shown = dump + gateway.log.read_text()
            for pair in (first, second):
                lines = pair[0].decode().splitlines()
                assert not any(line in shown or b64encode(line.encode()).decode() in shown for line in lines[1:-1])

            await gateway.apply([], secret("shop", second))
            await until(lambda: gateway.refuses(client, "shop.example.com"))

    asyncio.run(scenario())
