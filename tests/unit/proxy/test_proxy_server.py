"""The data path on real sockets: updates, TLS on both sides, and what an update leaves alone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from mesh.proxy import decode
from mesh.proxy.observe.stats import Stats
from mesh.proxy.resources import Refused, Resources
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


STRICT = chain("app", context("Downstream"))
PERMISSIVE = (
    chain("app", context("Downstream"), "transport_protocol: tls, application_protocols: [istio]")
    + ", "
    + chain("app", match="transport_protocol: raw_buffer")
)


def test_mutual_tls_between_two_sidecars() -> None:
    async def scene() -> None:
        authority = Authority()
        async with (
            app() as port,
            sidecar(resources(listener(STRICT), cluster("app", port), secret=secrets(authority, "b"))) as inbound,
            sidecar(
                resources(
                    listener(chain("peer")),
                    cluster("peer", inbound.port, context("Upstream", "spiffe://cluster.local/ns/default/sa/b")),
                    secret=secrets(authority, "a"),
                )
            ) as outbound,
        ):
            for _ in range(3):
                assert await get(outbound.port) == "app"
            assert inbound.counter("ssl.handshake") == 1  # the connection between them is kept

    play(scene)


def test_a_new_connection_resumes_the_session_of_the_last_one() -> None:
    async def scene() -> None:
        authority = Authority()
        peer = "spiffe://cluster.local/ns/default/sa/b"
        async with (
            app() as port,
            sidecar(resources(listener(STRICT), cluster("app", port), secret=secrets(authority, "b"))) as inbound,
        ):
            once = cluster("peer", inbound.port, context("Upstream", peer)).replace(
                "connect_timeout", "max_requests_per_connection: 1, connect_timeout"
            )
            async with sidecar(resources(listener(chain("peer")), once, secret=secrets(authority, "a"))) as outbound:
                for _ in range(3):
                    assert await get(outbound.port) == "app"
                assert outbound.counter("cluster.peer.ssl.handshake") == 3
                assert outbound.counter("cluster.peer.ssl.session_reused") == 2
                assert inbound.counter("ssl.fail_verify_san") == 0

    play(scene)


def test_a_client_refuses_a_server_of_another_identity() -> None:
    async def scene() -> None:
        authority = Authority()
        async with (
            sidecar(resources(listener(STRICT), cluster("app", 1), secret=secrets(authority, "b"))) as inbound,
            sidecar(
                resources(
                    listener(chain("peer")),
                    cluster("peer", inbound.port, context("Upstream", "spiffe://cluster.local/ns/default/sa/c")),
                    secret=secrets(authority, "a"),
                )
            ) as outbound,
        ):
            assert "CERTIFICATE_VERIFY_FAILED" in await get(outbound.port)
            assert outbound.counter("cluster.peer.ssl.fail_verify_san") == 1

    play(scene)


@pytest.mark.parametrize(
    ("identity", "trusted", "counter"),
    [
        ("spiffe://cluster.local/ns/default/sa/a", True, "ssl.handshake"),
        (None, True, "ssl.fail_verify_no_cert"),
        ("spiffe://elsewhere/ns/default/sa/a", True, "ssl.fail_verify_san"),
        ("spiffe://cluster.local/ns/default/sa/a", False, "ssl.fail_verify_error"),
    ],
)
def test_strict_takes_only_certificates_of_the_mesh(
    identity: str | None, trusted: bool, counter: str, tmp_path: Path
) -> None:
    async def scene() -> None:
        authority, other = Authority(), Authority()
        async with (
            app() as port,
            sidecar(resources(listener(STRICT), cluster("app", port), secret=secrets(authority, "b"))) as inbound,
        ):
            tls = client_context(authority if trusted else other, identity, tmp_path)
            tls.load_verify_locations(cadata=authority.trust)
            served = counter == "ssl.handshake"
            assert await get(inbound.port, tls=tls) == ("app" if served else "")
            assert inbound.counter(counter) == 1
            assert inbound.counter("ssl.connection_error") == (0 if served else 1)
            assert await get(inbound.port) == ""  # plaintext
            assert inbound.counter("ssl.connection_error") == (1 if served else 2)

    play(scene)


def test_permissive_takes_both_on_one_port(tmp_path: Path) -> None:
    async def scene() -> None:
        authority = Authority()
        async with (
            app() as port,
            sidecar(resources(listener(PERMISSIVE), cluster("app", port), secret=secrets(authority, "b"))) as inbound,
        ):
            tls = client_context(authority, "spiffe://cluster.local/ns/default/sa/a", tmp_path)
            assert await get(inbound.port, tls=tls) == "app"
            assert await get(inbound.port) == "app"
            assert inbound.counter("ssl.handshake") == 1

    play(scene)


def test_new_certificates_serve_new_connections_and_old_connections_stay(tmp_path: Path) -> None:
    async def scene() -> None:
        old, new = Authority(), Authority()
        config = resources(listener(STRICT), secret=secrets(old, "b"))
        async with sidecar(config) as inbound:
            identity = "spiffe://cluster.local/ns/default/sa/a"
            tls = client_context(old, identity, tmp_path)
            reader, writer = await asyncio.open_connection("127.0.0.1", inbound.port, ssl=tls, server_hostname="app")
            await inbound.server.apply(replace(config, secrets=secrets(new, "b")))
            writer.write(b"GET /own HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.close()
            assert await get(inbound.port, "/own", client_context(old, identity, tmp_path)) == ""
            assert await get(inbound.port, "/own", client_context(new, identity, tmp_path)) == "app"

    play(scene)


def test_a_listener_without_its_secrets_closes_connections_until_they_come(tmp_path: Path) -> None:
    async def scene() -> None:
        authority = Authority()
        config = resources(listener(STRICT))
        async with sidecar(config) as inbound:
            tls = client_context(authority, "spiffe://cluster.local/ns/default/sa/a", tmp_path)
            assert await get(inbound.port, "/own", tls) == ""
            assert inbound.counter("downstream_context_secrets_not_ready") == 1
            await inbound.server.apply(replace(config, secrets=secrets(authority, "b")))
            assert await get(inbound.port, "/own", tls) == "app"

    play(scene)


def test_an_update_that_cannot_be_served_changes_nothing() -> None:
    async def scene() -> None:
        async with app() as port:
            good = resources(listener(chain("app")), cluster("app", port))
            async with sidecar(good) as proxy:
                bad = resources(listener(chain("other")), cluster("other", port).replace("STATIC", "ORIGINAL_DST"))
                with pytest.raises(Refused, match='Cluster "other": load_assignment: ORIGINAL_DST clusters'):
                    await proxy.server.apply(bad)
                taken = resources(f"{listener(chain('app'))}, {listener(chain('app'), port, 'second')}")
                with pytest.raises(Refused, match=f'Listener "second": address: cannot bind 127.0.0.1:{port}: Address'):
                    await proxy.server.apply(taken)
                assert proxy.server.runtime.resources is good
                assert await get(proxy.port) == "app"

    play(scene)


def test_an_inline_table_needs_its_clusters() -> None:
    async def scene() -> None:
        async with app() as port:
            checked = listener(chain("app")).replace("validate_clusters: false, ", "")
            async with sidecar(resources(checked, cluster("app", port))) as proxy:
                with pytest.raises(Refused, match="Listener \"l\": route: unknown cluster 'app'"):
                    await proxy.server.apply(resources(listener(chain("app")).replace("false", "true")))
                assert await get(proxy.port) == "app"

    play(scene)


@pytest.mark.parametrize("name", ["l", "renamed"])
def test_an_idle_connection_is_told_before_it_ends_when_its_listener_changes(name: str) -> None:
    """Closed at once it would race with the request that its client is just sending."""

    async def scene() -> None:
        async with sidecar(resources(listener(chain("one")))) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            for is_last in (False, True):
                writer.write(b"GET /own HTTP/1.1\r\nHost: a\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                assert (b"connection: close" in head) == is_last
                assert await reader.readexactly(3) == b"one"
                await proxy.server.apply(resources(listener(chain("two"), name=name)))
            assert await reader.read() == b""
            writer.close()

    play(scene)


def test_a_port_passes_from_one_listener_to_another() -> None:
    async def scene() -> None:
        async with sidecar(resources(listener(chain("one")))) as proxy:
            port = proxy.port
            await proxy.server.apply(resources(listener(chain("one"), port)))
            await proxy.server.apply(resources(listener(chain("two"), port, "renamed")))
            assert await get(port, "/own") == "two"

    play(scene)


def test_an_endpoint_change_keeps_the_hosts_that_stay() -> None:
    async def scene() -> None:
        async with app("one") as first, app("two") as second:
            eds = "{name: app, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}, connect_timeout: 1s}"
            config = resources(listener(chain("app")), eds)

            def assignment(*ports: int) -> dict[str, ClusterLoadAssignment]:
                made = ClusterLoadAssignment(cluster_name="app")
                for port in ports:
                    address = made.endpoints.add().lb_endpoints.add().endpoint.address.socket_address
                    address.address, address.port_value = "127.0.0.1", port
                return {"app": made}

            config = replace(config, endpoints=assignment(first))
            async with sidecar(config) as proxy:
                assert await get(proxy.port) == "one"
                cluster = proxy.server.runtime.clusters["app"]
                (host,) = cluster.hosts
                await proxy.server.apply(replace(config, endpoints=assignment(first, second)))
                assert proxy.server.runtime.clusters["app"] is cluster
                assert cluster.hosts[0] is host
                assert {await get(proxy.port) for _ in range(4)} == {"one", "two"}
                assert host.cx_total == 1
                await proxy.server.apply(replace(config, endpoints=assignment(second)))
                assert {await get(proxy.port) for _ in range(3)} == {"two"}
                await proxy.server.apply(replace(config, endpoints={}))
                assert await get(proxy.port) == "no healthy upstream"

    play(scene)


def test_fields_that_are_not_supported_are_named() -> None:
    async def scene() -> None:
        config = resources(
            listener(chain("app")).replace("stat_prefix: t,", "stat_prefix: t, proxy_status_config: {},")
        )
        with pytest.raises(Refused) as refused:
            async with sidecar(config):
                pass
        path = "filter_chains[0].filters[0].typed_config.proxy_status_config"
        assert str(refused.value) == f'Listener "l": {path}: not supported by this sidecar'

    play(scene)


def test_inbound_listeners_alone_are_drained() -> None:
    async def scene() -> None:
        inbound = listener(chain("in"), name="l").replace("{name: l,", "{name: l, traffic_direction: INBOUND,", 1)
        async with sidecar(resources(f"{inbound}, {listener(chain('out'), name='o')}")) as running:
            ports = {name: each.ports[0][1] for name, each in running.server.listeners.items()}
            assert (await get(ports["l"], "/own"), await get(ports["o"], "/own")) == ("in", "out")
            running.server.begin_drain(inbound_only=True)
            assert (await get(ports["l"], "/own"), await get(ports["o"], "/own")) == ("", "out")
            assert not running.server.listeners["o"].is_draining

    play(scene)


def test_a_server_that_fails_its_health_checks_says_goodbye_until_it_is_well() -> None:
    async def scene() -> None:
        calm = listener(chain("calm"), name="calm").replace("{name: calm,", "{name: calm, drain_type: MODIFY_ONLY,", 1)
        async with sidecar(resources(f"{listener(chain('own'))}, {calm}")) as running:

            async def says_goodbye(name: str) -> bool:
                reader, writer = await asyncio.open_connection("127.0.0.1", running.server.listeners[name].ports[0][1])
                writer.write(b"GET /own HTTP/1.1\r\nHost: app\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                writer.close()
                return b"\r\nconnection: close\r\n" in head

            assert not await says_goodbye("l")
            running.server.fail(True)
            assert (await says_goodbye("l"), await says_goodbye("calm")) == (True, False)
            running.server.fail(False)
            assert not await says_goodbye("l")

    play(scene)


def test_a_drain_that_goes_on_accepting_lets_each_connection_answer_once() -> None:
    async def scene() -> None:
        async with sidecar(resources(listener(chain("own")))) as running:
            running.server.begin_drain(keeps_accepting=True)
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(b"GET /own HTTP/1.1\r\nHost: app\r\n\r\n")
            answer = await reader.read()
            writer.close()
            assert b"\r\nconnection: close\r\n" in answer
            assert answer.endswith(b"own")

    play(scene)


def test_workers_cannot_share_one_socket() -> None:
    async def scene() -> None:
        config = resources(listener(chain("c")).replace("{name: l,", "{name: l, enable_reuse_port: false,"))
        with open("/dev/null", "w") as log:  # noqa: ASYNC230 - opening a device does not wait
            alone = Server(asyncio.get_running_loop(), Node(id="n"), Stats(), log)
            await alone.check(config)
            one_of_many = Server(asyncio.get_running_loop(), Node(id="n"), Stats(), log, reuse_port=True)
            with pytest.raises(Refused, match="enable_reuse_port: false is supported with --concurrency 1 alone"):
                await one_of_many.check(config)
            await alone.close(0)
            await one_of_many.close(0)

    play(scene)
