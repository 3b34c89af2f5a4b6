"""The data path on real sockets: a sidecar from a few lines of configuration, an app behind it, and a client."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.core.v3.base_pb2 import Node
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from mesh.proxy import decode
from mesh.proxy.observe.stats import Stats
from mesh.proxy.resources import Resources
from mesh.proxy.server import Server

V3 = "type.googleapis.com/envoy.extensions"


class Authority:
    """A certificate authority of the tests."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        # OpenSSL finds an issuer by name, so two authorities must not share one.
        self._name = f"root {x509.random_serial_number()}"
        self._root = self._certificate(self._name, self._key.public_key(), x509.BasicConstraints(True, None))

    @property
    def trust(self) -> str:
        return self._root.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, uri: str) -> tuple[str, str]:
        """(chain, key) for a SPIFFE identity."""
        key = ec.generate_private_key(ec.SECP256R1())
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        chain = self._certificate("leaf", key.public_key(), san).public_bytes(serialization.Encoding.PEM).decode()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return chain, pem.decode()

    def _certificate(self, name: str, key: Any, extension: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self._name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(extension, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name[:64])])


def secrets(authority: Authority, identity: str) -> dict[str, Secret]:
    chain, key = authority.issue(f"spiffe://cluster.local/ns/default/sa/{identity}")
    pair, root = Secret(name="default"), Secret(name="ROOTCA")
    pair.tls_certificate.certificate_chain.inline_string = chain
    pair.tls_certificate.private_key.inline_string = key
    root.validation_context.trusted_ca.inline_string = authority.trust
    return {"default": pair, "ROOTCA": root}


def context(kind: str, wanted: str = "spiffe://cluster.local/") -> str:
    more = "require_client_certificate: true," if kind == "Downstream" else "sni: app,"
    return f"""{{name: tls, typed_config: {{"@type": {V3}.transport_sockets.tls.v3.{kind}TlsContext, {more}
      common_tls_context: {{alpn_protocols: [istio], tls_certificate_sds_secret_configs: [{{name: default}}],
        combined_validation_context: {{validation_context_sds_secret_config: {{name: ROOTCA}},
          default_validation_context: {{match_typed_subject_alt_names: [
            {{san_type: URI, matcher: {{prefix: "{wanted}"}}}}]}}}}}}}}}}"""


def chain(cluster: str, tls: str = "", match: str = "") -> str:
    socket = f"transport_socket: {tls}," if tls else ""
    return f"""{{{socket} filter_chain_match: {{{match}}}, filters: [{{name: hcm, typed_config: {{
      "@type": {V3}.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: t,
      route_config: {{validate_clusters: false, virtual_hosts: [{{name: v, domains: ["*"], routes: [
        {{match: {{prefix: "/own"}}, direct_response: {{status: 200, body: {{inline_string: {cluster}}}}}}},
        {{match: {{prefix: "/"}}, route: {{cluster: {cluster}}}}}]}}]}},
      http_filters: [{{name: router, typed_config: {{"@type": {V3}.filters.http.router.v3.Router}}}}]}}}}]}}"""


def listener(chains: str, port: int = 0, name: str = "l") -> str:
    inspector = f"{{name: i, typed_config: {{'@type': {V3}.filters.listener.tls_inspector.v3.TlsInspector}}}}"
    address = f"{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}"
    return f"{{name: {name}, address: {address}, listener_filters: [{inspector}], filter_chains: [{chains}]}}"


def cluster(name: str, port: int, tls: str = "") -> str:
    socket = f"transport_socket: {tls}," if tls else ""
    address = f"{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}"
    return f"""{{name: {name}, type: STATIC, connect_timeout: 1s, {socket}
      load_assignment: {{endpoints: [{{lb_endpoints: [{{endpoint: {{address: {address}}}}}]}}]}}}}"""


def resources(listeners: str, clusters: str = "", *, secret: dict[str, Secret] | None = None) -> Resources:
    parsed = Bootstrap()
    decode.parse(f"static_resources: {{listeners: [{listeners}], clusters: [{clusters}]}}", parsed, "test")
    static = parsed.static_resources
    return Resources(
        listeners={each.name: each for each in static.listeners},
        clusters={each.name: each for each in static.clusters},
        secrets=secret or {},
    )


class Sidecar:
    def __init__(self, server: Server, stats: Stats) -> None:
        self.server = server
        self._stats = stats

    @property
    def port(self) -> int:
        return self.server.listeners["l"].ports[0][1]

    def counter(self, end: str) -> Any:
        return sum(sample.value for sample in self._stats.snapshot() if sample.name.endswith(end))  # type: ignore[misc]


@asynccontextmanager
async def sidecar(config: Resources) -> AsyncIterator[Sidecar]:
    stats = Stats()
    with open("/dev/null", "w") as log:  # noqa: ASYNC230 - opening a device does not wait
        server = Server(asyncio.get_running_loop(), Node(id="n"), stats, log)
        await server.apply(config)
        try:
            yield Sidecar(server, stats)
        finally:
            await server.close(0)


@asynccontextmanager
async def app(name: str = "app") -> AsyncIterator[int]:
    """A server that answers every request with its name; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(name), name.encode()))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def get(port: int, path: str = "/", tls: ssl.SSLContext | None = None) -> str:
    """The body of the answer; "" if the connection ends without one."""
    async with asyncio.timeout(5):
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=tls, server_hostname="app" if tls else None
            )
            writer.write(f"GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
        except OSError:
            return ""
        writer.close()
        return answer.partition(b"\r\n\r\n")[2].decode()


def client_context(authority: Authority, identity: str | None, folder: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.load_verify_locations(cadata=authority.trust)
    made.set_alpn_protocols(["istio"])
    if identity is not None:
        pair = authority.issue(identity)
        file = folder / "pair.pem"
        file.write_text("".join(pair))
        made.load_cert_chain(file)
    return made


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scene()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())
