"""TLS on both sides of the data path, on real sockets, and secrets that change or come later."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from live_sidecar import (
    Authority,
    app,
    chain,
    client_context,
    cluster,
    context,
    get,
    listener,
    play,
    resources,
    secrets,
    sidecar,
)

from mesh.proxy.tls import transport_socket

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


def test_no_session_outlives_the_certificate_that_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        authority = Authority()
        async with (
            app() as port,
            sidecar(resources(listener(STRICT), cluster("app", port), secret=secrets(authority, "b"))) as inbound,
        ):
            peer = cluster("peer", inbound.port, context("Upstream", "spiffe://cluster.local/ns/default/sa/b"))
            once = peer.replace("connect_timeout", "max_requests_per_connection: 1, connect_timeout")
            async with sidecar(resources(listener(chain("peer")), once, secret=secrets(authority, "a"))) as outbound:
                assert [await get(outbound.port), await get(outbound.port)] == ["app", "app"]
                assert outbound.counter("cluster.peer.ssl.session_reused") == 1
                late = SimpleNamespace(time=lambda: time.time() + 3 * 3600)  # to OpenSSL it is as early as it is
                monkeypatch.setattr(transport_socket, "time", late)
                assert await get(outbound.port) == "app"
                assert outbound.counter("cluster.peer.ssl.session_reused") == 1

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
            assert (await get(outbound.port)).endswith("reset reason: remote connection failure")
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
            assert await get(inbound.port, tls=tls) == ("app" if counter == "ssl.handshake" else "")
            assert inbound.counter(counter) == 1
            assert (
                inbound.counter("ssl.connection_error") == 0
            )  # as in Envoy: what fails to verify has counters of its own
            assert await get(inbound.port) == ""  # plaintext
            assert inbound.counter("ssl.connection_error") == 1

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
