"""Tokens whose keys have to be fetched: who waits, who shares, who gives up; and lifetimes, which need fresh tokens."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

from tests.transcript.proxy_stage import Stage, Wire, play

SECRET = b"a secret that many know"
TYPE = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
ROUTES = '{match: {prefix: "/"}, route: {cluster: app}}'


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


KEYS = json.dumps({"keys": [{"kty": "oct", "k": encoded(SECRET)}]}).encode()


def token(**claims: Any) -> str:
    parts = ({"alg": "HS256"}, {"iss": "idp", **claims})
    signed = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{encoded(hmac.digest(SECRET, signed.encode(), 'sha256'))}"


def stage(provider: str) -> Stage:
    filters = f"""{{name: jwt, typed_config: {{"@type": {TYPE}, providers: {{idp: {{issuer: idp, {provider}}}}},
      rules: [{{match: {{prefix: /}}, requires: {{provider_name: idp}}}}]}}}},"""
    return Stage(ROUTES, {"app": "port: 80", "idp": "port: 81"}, filters=filters)


REMOTE = "remote_jwks: {http_uri: {uri: 'http://idp/keys', cluster: idp, timeout: 5s}, cache_duration: %s %s}"


def ask(scene: Stage, text: str) -> Wire:
    client = scene.client()
    client.comes(f"GET / HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {text}\r\n\r\n".encode())
    return client


def reply(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def test_requests_share_one_fetch_and_one_may_leave() -> None:
    async def scene() -> None:
        made = stage(REMOTE % ("600s", ""))
        first, leaving, forged = ask(made, token()), ask(made, token()), ask(made, token()[:-4] + "AAAA")
        idp = await made.upstream()
        assert idp.take().startswith(b"GET /keys HTTP/1.1\r\nhost: idp\r\nuser-agent: Go-browser\r\n")
        leaving.ends()
        idp.comes(reply(KEYS))
        assert len(made.upstreams) == 1  # nobody goes on before the loop turns
        assert b"401 Unauthorized" in forged.take()
        app = await made.upstream(1)
        assert app.take().startswith(b"GET / HTTP/1.1\r\n")
        app.comes(reply(b"ok"))
        assert first.take().endswith(b"ok")
        await made.settle()
        assert len(made.upstreams) == 2
        assert made.counter("http.t.jwt_authn.jwks_fetch_success") == 1
        assert made.counter("http.t.jwt_authn.allowed") == 1
        assert made.counter("http.t.downstream_rq_active") == 0

    play(scene)


def test_keys_that_are_too_old_are_fetched_again() -> None:
    async def scene() -> None:
        made = stage(REMOTE % ("0.001s", ""))
        for turn in range(2):
            client = ask(made, token())
            idp = await made.upstream(0)
            await made.until(lambda idp=idp: idp.written)
            idp.take()
            idp.comes(reply(b"no", 500) if turn else reply(KEYS))
            if turn:
                assert b"Jwks remote fetch is failed" in client.take()
            else:
                (await made.upstream(1)).comes(reply(b"ok"))
                assert client.take().endswith(b"ok")
                began = time.monotonic()
                await made.until(lambda began=began: time.monotonic() > began + 0.002)
        assert made.counter("http.t.jwt_authn.jwks_fetch_failed") == 1

    play(scene)


def test_a_good_token_tells_nothing_of_a_lost_client() -> None:
    async def scene() -> None:
        made = stage(REMOTE % ("600s", ", async_fetch: {}"))
        client = ask(made, token())
        idp = await made.upstream()
        client.ends()
        idp.comes(reply(KEYS))
        await made.settle()
        assert len(made.upstreams) == 1
        assert made.counter("http.t.downstream_rq_active") == 0

    play(scene)


def test_lifetimes_and_clock_skew() -> None:
    keys = f"local_jwks: {{inline_string: '{KEYS.decode()}'}}"

    async def scene() -> None:
        now = int(time.time())
        made = stage(f"{keys}, max_lifetime: 3600s, clock_skew_seconds: 1000")
        for claims, passes in (
            ({"iat": now, "exp": now + 3600}, True),
            ({"iat": now, "exp": now + 3601}, False),
            ({"iat": now - 1500, "exp": now - 500}, True),
            ({"iat": now - 3000, "exp": now - 1500}, False),
            ({"nbf": now + 500, "exp": now + 600}, True),
            ({"iat": now}, False),
        ):
            client = ask(made, token(**claims))
            await made.settle()
            assert (client.take() == b"") is passes, claims
            client.ends()

    play(scene)
