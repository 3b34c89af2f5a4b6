"""AuthorizationPolicy and RequestAuthentication in front of a real app, by sidecars of both engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from xdskit.mesh import objects
from xdskit.pki import Authority
from xdskit.serving import served
from xdskit.sidecar import free_block, sidecar
from xdskit.tokens import Issuer

from mesh.api.meta import Resource
from mesh.xds.ads.server import DiscoveryServer
from mesh.xds.ads.status import SyncState

WAIT_S = 30.0
ENGINES = pytest.mark.parametrize("engine", ["python", pytest.param("envoy", marks=pytest.mark.envoy)])
PODS = {"client": 1, "web": 2, "stranger": 3}
MESH = """
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 9080}}, {{name: tcp-echo, port: 7000}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: keys}}
spec: {{selector: {{app: keys}}, ports: [{{name: http, port: 8000}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client-0, labels: {{app: client}}}}
spec: {{serviceAccountName: client, containers: [{{name: istio-proxy}}]}}
status: {{phase: Running, podIP: {block}.1, conditions: [{{type: Ready, status: "True"}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: stranger-0, labels: {{app: stranger}}}}
spec: {{serviceAccountName: stranger, containers: [{{name: istio-proxy}}]}}
status: {{phase: Running, podIP: {block}.3, conditions: [{{type: Ready, status: "True"}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: keys-0, labels: {{app: keys}}}}
spec: {{containers: [{{name: keys, ports: [{{containerPort: 8000}}]}}]}}
status: {{phase: Running, podIP: {block}.4, conditions: [{{type: Ready, status: "True"}}]}}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  labels: {{security.istio.io/tlsMode: istio, app: web}}
  annotations: {{meshdrill.dev/app-ports: '{{"9080": {http}, "7000": {echo}}}'}}
spec:
  serviceAccountName: web
  containers: [{{name: web, ports: [{{containerPort: 9080}}, {{containerPort: 7000}}]}}, {{name: istio-proxy}}]
status: {{phase: Running, podIP: {block}.2, conditions: [{{type: Ready, status: "True"}}]}}
"""
NO_POOL = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}}
"""
"""A connection that is open when a policy comes ends with its next response: here each request has a new one."""
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, annotations: {{istio.io/dry-run: "{dry}"}}}}
spec: {{selector: {{matchLabels: {{app: web}}}}, action: {action}, rules: {rules}}}
"""
BY_CLIENT = "from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]"
DENIED = (403, "RBAC: access denied")
ALLOWED = (200, "hello")


def policy(action: str, rules: str, name: str = "", *, dry: bool = False) -> list[Resource]:
    return objects(POLICY.format(name=name or action.lower(), action=action, rules=rules, dry=str(dry).lower()))


class Callers:
    """What the pods are told when they call `web`."""

    def __init__(self, server: DiscoveryServer, block: str) -> None:
        self._server = server
        self._block = block
        self._version = 1
        self._there: list[Resource] = []

    async def under(self, *policies: list[Resource]) -> None:
        """These policies in place of whatever was there, once all sidecars have them."""
        self._version += 1
        there = [own for each in policies for own in each]
        gone = [own for own in self._there if (own.KIND, own.name) not in {(new.KIND, new.name) for new in there}]
        self._there = there
        self._server.change(there, gone, self._version)
        result = await self._server.wait_synced(self._version, WAIT_S)
        assert result.state is SyncState.SYNCED, result

    async def get(self, pod: str, path: str = "/", *headers: str) -> tuple[int, str]:
        """Status and body."""
        lines = (f"GET http://web:9080{path} HTTP/1.1", "host: web:9080", "connection: close", *headers)
        head, _, body = (await self._said(pod, 15080, "\r\n".join(lines) + "\r\n\r\n")).partition("\r\n\r\n")
        return int(head.split()[1]), body

    async def echo(self, pod: str) -> str:
        """What comes back over TCP; nothing where the connection is refused."""
        return await self._said(pod, 7000, "ping")

    async def _said(self, pod: str, port: int, text: str) -> str:
        reader, writer = await asyncio.open_connection(f"{self._block}.{PODS[pod]}", port)
        try:
            writer.write(text.encode())
            async with asyncio.timeout(WAIT_S):
                return (await reader.read()).decode()
        except ConnectionError:  # one way of saying no
            return ""
        finally:
            writer.close()


async def http_app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with `hello`, and what the sidecar has put into x-sub."""
    while await reader.readline():
        body = b"hello"
        while (line := await reader.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"x-sub:"):
                body += line.partition(b":")[2].rstrip()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    writer.close()


async def echo_app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"echo " + await reader.read(100))
    writer.close()


@asynccontextmanager
async def callers(engine: str, folder: Path, jwks: str = "") -> AsyncIterator[Callers]:
    """The mesh of three pods; `jwks` is what the service `keys` gives out."""

    async def keys_app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {len(jwks)}\r\n\r\n{jwks}".encode())
        writer.close()

    block, authority = free_block(), Authority()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(await asyncio.start_server(http_app, f"{block}.2", 0))
        echo = await stack.enter_async_context(await asyncio.start_server(echo_app, f"{block}.2", 0))
        await stack.enter_async_context(await asyncio.start_server(keys_app, f"{block}.4", 8000))
        numbers = {"http": http.sockets[0].getsockname()[1], "echo": echo.sockets[0].getsockname()[1]}
        mesh = objects(MESH.format(block=block, **numbers), NO_POOL)
        server, port = await stack.enter_async_context(served(authority, mesh))
        for pod, number in PODS.items():
            own = {"pod": f"{pod}-0", "address": f"{block}.{number}", "account": pod}
            await stack.enter_async_context(sidecar(authority, engine, folder / pod, **own, ads_port=port))
        async with asyncio.timeout(WAIT_S):
            while len(server.proxies()) < len(PODS):  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.05)
        yield Callers(server, block)


@ENGINES
def test_who_may_ask_for_what(engine: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with callers(engine, tmp_path) as web:
            await web.under()
            assert await web.get("stranger") == ALLOWED
            # Whoever is not allowed is denied, once anybody is allowed anything.
            await web.under(policy("ALLOW", f"[{{{BY_CLIENT}}}]"))
            assert await web.get("client") == ALLOWED
            assert await web.get("stranger") == DENIED
            # What is denied is denied to those too who are allowed it.
            admin = "[{to: [{operation: {paths: [/admin*]}}]}]"
            await web.under(policy("ALLOW", f"[{{{BY_CLIENT}}}]"), policy("DENY", admin))
            assert await web.get("client", "/admin/users") == DENIED
            assert await web.get("client", "/adm%69n") == DENIED
            assert await web.get("client", "/x/../admin") == DENIED
            assert await web.get("client", "/public?/admin") == ALLOWED
            # A header alone may decide, and a policy on trial decides nothing.
            gold = '[{when: [{key: "request.headers[x-tier]", values: [gold*]}]}]'
            await web.under(policy("ALLOW", gold), policy("DENY", "[{}]", dry=True))
            assert await web.get("stranger") == DENIED
            assert await web.get("stranger", "/", "x-tier: golden") == ALLOWED
            # A template's wildcards are segments.
            await web.under(policy("ALLOW", '[{to: [{operation: {paths: ["/a/{*}/c/{**}"]}}]}]'))
            assert await web.get("client", "/a/b/c/d/e") == ALLOWED
            assert await web.get("client", "/a/b/b/c/d") == DENIED
            # No rule, nobody.
            await web.under(objects(POLICY.format(name="none", action="ALLOW", rules="[]", dry="false")))
            assert await web.get("client") == DENIED
            await web.under()
            assert await web.get("client") == ALLOWED

    asyncio.run(scenario())


@ENGINES
def test_who_may_connect_where(engine: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with callers(engine, tmp_path) as web:
            to_port = 'to: [{operation: {ports: ["7000"]}}]'
            await web.under(policy("ALLOW", f"[{{{BY_CLIENT}, {to_port}}}]"))
            assert await web.echo("client") == "echo ping"
            assert await web.echo("stranger") == ""
            assert await web.get("client") == DENIED
            # A connection has no method: such a rule allows none, and denies all.
            await web.under(policy("ALLOW", "[{to: [{operation: {methods: [GET]}}]}]"))
            assert await web.echo("client") == ""
            assert await web.get("client") == ALLOWED
            await web.under(policy("DENY", f"[{{{BY_CLIENT}, to: [{{operation: {{methods: [POST]}}}}]}}]"))
            assert await web.echo("client") == ""
            assert await web.echo("stranger") == "echo ping"
            assert await web.get("client") == ALLOWED

    asyncio.run(scenario())


def authentication(rules: Sequence[str]) -> list[Resource]:
    head = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: tokens}\n"
    return objects(f"{head}spec: {{selector: {{matchLabels: {{app: web}}}}, jwtRules: [{', '.join(rules)}]}}")


@ENGINES
def test_whose_token_is_taken(engine: str, tmp_path: Path) -> None:
    """Keys in the policy and from a service, tokens of two issuers, and policies that ask for them."""
    inside, outside, forger = Issuer("https://a.example"), Issuer("b@example"), Issuer("https://a.example")

    async def scenario() -> None:
        async with callers(engine, tmp_path, outside.jwks) as web:
            tokens = authentication(
                (
                    f"{{issuer: {inside.name}, jwks: '{inside.jwks}', "
                    "outputClaimToHeaders: [{header: x-sub, claim: sub}]}",
                    f"{{issuer: {outside.name}, jwksUri: 'http://keys.default:8000/jwks', "
                    "fromHeaders: [{name: x-token}]}",
                )
            )
            alice, bob = f"authorization: Bearer {inside.token('alice')}", f"x-token: {outside.token('bob')}"
            forged = f"authorization: Bearer {forger.token('alice')}"
            await web.under(tokens)
            assert await web.get("client") == ALLOWED  # a token that is there must be good; none is as good
            assert await web.get("client", "/", alice) == (200, "hello alice")
            assert await web.get("client", "/", bob) == ALLOWED
            assert (await web.get("client", "/", forged))[0] == 401
            assert await web.get("client", "/", "x-sub: alice") == ALLOWED  # claims come from tokens alone

            await web.under(tokens, policy("ALLOW", '[{from: [{source: {requestPrincipals: ["*"]}}]}]'))
            assert await web.get("client") == DENIED
            assert (await web.get("client", "/", alice))[0] == 200
            assert (await web.get("client", "/", forged))[0] == 401

            by_issuer = f'[{{from: [{{source: {{requestPrincipals: ["{outside.name}/*"]}}}}]}}]'
            await web.under(tokens, policy("ALLOW", by_issuer))
            assert await web.get("client", "/", alice) == DENIED
            assert await web.get("client", "/", bob) == ALLOWED

            by_group = '[{when: [{key: "request.auth.claims[org][groups]", values: [staff, eng-*]}]}]'
            await web.under(tokens, policy("ALLOW", by_group))
            for groups, status in ((["other", "eng-1"], 200), ("staff", 200), (["staffer"], 403), (None, 403)):
                header = f"authorization: Bearer {inside.token('alice', org={'groups': groups})}"
                assert (await web.get("client", "/", header))[0] == status, groups

    asyncio.run(scenario())
