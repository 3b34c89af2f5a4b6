"""SDS files: loaded at start, picked up live after a rename, and a broken one changes nothing."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import grpc
from cryptography import x509
from proxy_certificates import (
    Authority,
    Pair,
    downstream_tls,
    pair_secret,
    replace,
    upstream_tls,
    write_pair,
    write_root,
)
from proxy_control_plane import ControlPlane
from proxy_resources import ADS, rds_listener, says
from proxy_sidecar import Sidecar, ads_bootstrap, free_port, sidecar

from mesh.proxy.operations.references import CLUSTER, LISTENER, ROUTE, SECRET

IDENTITY = "spiffe://cluster.local/ns/default/sa/a"


async def served_serial(port: int, authority: Authority, pair: Pair, folder: Path) -> int:
    """The serial number of the certificate that a client of `pair` is shown."""
    (folder / "client.pem").write_text(pair.chain + pair.key)
    context = ssl.create_default_context(cadata=authority.root)
    context.load_cert_chain(folder / "client.pem")
    async with asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


def credentials(authority: Authority, pair: Pair) -> grpc.ServerCredentials:
    """What a control plane of that authority serves with; it wants a client certificate."""
    both = [(pair.key.encode(), pair.chain.encode())]
    return grpc.ssl_server_credentials(both, authority.root.encode(), require_client_auth=True)


async def until_loaded(running: Sidecar, name: str, count: int) -> None:
    await running.until_stat(f"sds.{name}.update_success", count)


def test_certificates_rotate_live_and_broken_files_keep_what_was_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = Authority()
        client = authority.issue(IDENTITY)
        write_root(tmp_path, authority.root)
        write_pair(tmp_path, authority.issue(IDENTITY, 1001))
        control = ControlPlane()
        await control.start()
        try:
            async with sidecar(tmp_path, ads_bootstrap(control.port)) as running:
                stream = await control.connected()
                await stream.heard(CLUSTER)
                stream.say(CLUSTER, "c1")
                await stream.heard(CLUSTER)
                await stream.heard(LISTENER)
                port = free_port()
                stream.say(LISTENER, "l1", rds_listener("in", port, "table", tls=downstream_tls()))
                await stream.heard(LISTENER)
                await stream.heard(ROUTE)
                stream.say(ROUTE, "r1", says("table", "hello"))
                await running.until_ready()
                assert await served_serial(port, authority, client, tmp_path) == 1001

                write_pair(tmp_path, authority.issue(IDENTITY, 1002))
                await until_loaded(running, "default", 2)
                assert await served_serial(port, authority, client, tmp_path) == 1002

                replace(tmp_path / "secrets" / "default.json", "{")
                await running.until_stat("sds.default.update_failure", 1)
                foreign = Authority().issue(IDENTITY)
                write_pair(tmp_path, Pair(foreign.chain, client.key))
                await running.until_stat("sds.default.update_rejected", 1)
                assert await served_serial(port, authority, client, tmp_path) == 1002

                write_pair(tmp_path, authority.issue(IDENTITY, 1003))
                await until_loaded(running, "default", 3)
                assert await served_serial(port, authority, client, tmp_path) == 1003

                certificates = (await running.json("/certs"))["certificates"]
                assert certificates[0]["cert_chain"][0]["serial_number"] == f"{1003:x}"
                assert {"uri": IDENTITY} in certificates[0]["cert_chain"][0]["subject_alt_names"]
                assert await running.stat("server.days_until_first_cert_expiring") == 1
                for page in ("/config_dump?include_eds", "/certs", "/stats"):
                    assert "PRIVATE KEY" not in (await running.get(page))[1]
                assert "PRIVATE KEY" not in running.log
        finally:
            await control.stop()

    asyncio.run(scenario())


def test_each_connection_to_the_control_plane_takes_the_secrets_of_that_moment(tmp_path: Path) -> None:
    async def scenario() -> None:
        old, new = Authority(), Authority()
        write_root(tmp_path, old.root)
        write_pair(tmp_path, old.issue(IDENTITY))
        control = ControlPlane()
        await control.start(credentials(old, old.issue("spiffe://cluster.local/ns/istio-system/sa/istiod")))
        tls = {"name": "envoy.transport_sockets.tls", "typed_config": upstream_tls()}
        try:
            async with sidecar(tmp_path, ads_bootstrap(control.port, transport_socket=tls)) as running:
                assert (await (await control.connected()).heard(CLUSTER)).node.id
                await control.stop()
                await control.start(credentials(new, new.issue("spiffe://cluster.local/ns/istio-system/sa/istiod")))
                await running.until_stat("control_plane.connected_state", 0)
                write_root(tmp_path, new.root)
                write_pair(tmp_path, new.issue(IDENTITY))
                assert (await (await control.connected()).heard(CLUSTER)).node.id
        finally:
            await control.stop()

    asyncio.run(scenario())


def test_without_its_secrets_the_sidecar_keeps_trying(tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = Authority()
        control = ControlPlane()
        await control.start(credentials(authority, authority.issue("spiffe://cluster.local/ns/istio-system/sa/istiod")))
        tls = {"name": "envoy.transport_sockets.tls", "typed_config": upstream_tls()}
        try:
            async with sidecar(tmp_path, ads_bootstrap(control.port, transport_socket=tls)) as running:
                await running.until_stat("sds.default.update_failure", 1)
                assert (await running.get("/ready"))[0] == 503
                write_root(tmp_path, authority.root)
                write_pair(tmp_path, authority.issue(IDENTITY))
                assert (await (await control.connected()).heard(CLUSTER)).node.id
        finally:
            await control.stop()

    asyncio.run(scenario())


def test_a_secret_may_come_from_the_control_plane(tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = Authority()
        mine = authority.issue(IDENTITY, 1004)
        write_root(tmp_path, authority.root)
        control = ControlPlane()
        await control.start()
        try:
            async with sidecar(tmp_path, ads_bootstrap(control.port)) as running:
                stream = await control.connected()
                await stream.heard(CLUSTER)
                stream.say(CLUSTER, "c1")
                await stream.heard(CLUSTER)
                await stream.heard(LISTENER)
                port = free_port()
                tls = downstream_tls(certificate={"name": "from-ads", "sds_config": ADS})
                stream.say(LISTENER, "l1", rds_listener("in", port, "table", tls=tls))
                await stream.heard(LISTENER)
                await stream.heard(ROUTE)
                assert list((await stream.heard(SECRET)).resource_names) == ["from-ads"]
                stream.say(ROUTE, "r1", says("table", "hello"))
                await stream.heard(ROUTE)
                assert (await running.get("/ready"))[1] == "INITIALIZING\n"
                stream.say(SECRET, "s1", pair_secret("from-ads", mine))
                await stream.heard(SECRET)
                await running.until_ready()
                assert await served_serial(port, authority, mine, tmp_path) == 1004
                assert "PRIVATE KEY" not in (await running.get("/config_dump"))[1]
        finally:
            await control.stop()

    asyncio.run(scenario())
