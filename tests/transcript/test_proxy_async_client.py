"""The proxy's own requests: what goes to the upstream, what comes back, and what is held when they end early."""

from __future__ import annotations

from typing import Any

from mesh.proxy.http.rescue import (
    ConnectFailed,
    NoCluster,
    Overflow,
    RequestTimedOut,
    ResponseTooLarge,
    UpstreamBroke,
)
from mesh.proxy.http.retry import RetryPolicy
from mesh.proxy.http1.head import ResponseHead
from mesh.proxy.upstream.async_client import RESPONSE_LIMIT, AsyncRequest, AsyncStream, own_head
from mesh.proxy.upstream.local_address import local_ip
from tests.transcript.proxy_stage import Stage, play

ROUTE = '{match: {prefix: "/"}, route: {cluster: app}}'
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Caller:
    """Collects what a request of our own is told."""

    def __init__(self, stage: Stage, cluster: str = "app", **fields: Any) -> None:
        self.responses: list[tuple[int, bytes]] = []
        self.failures: list[type] = []
        head = fields.pop("head", None) or own_head(b"GET", b"/keys", b"idp.test")
        self.request = AsyncRequest(stage.worker, cluster, head, answered=self._answered, failed=self._failed, **fields)

    def _answered(self, head: ResponseHead, body: bytes) -> None:
        self.responses.append((head.status, body))

    def _failed(self, failure: Any) -> None:
        self.failures.append(type(failure))


def test_a_request_and_its_response() -> None:
    async def scene() -> None:
        stage = Stage(ROUTE)
        caller = Caller(stage)
        caller.request.send()
        upstream = await stage.upstream()
        own = local_ip().encode()
        assert upstream.take() == (
            b"GET /keys HTTP/1.1\r\nhost: idp.test\r\nx-envoy-internal: true\r\nx-forwarded-for: " + own + b"\r\n\r\n"
        )
        upstream.comes(OK)
        assert caller.responses == [(200, b"ok")]
        assert not caller.failures
        again = Caller(stage)
        again.request.send()
        assert upstream.take()  # over the same connection
        upstream.comes(b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n")
        assert again.responses == []
        upstream.comes(b"0\r\n\r\n")
        assert again.responses == [(404, b"no")]
        assert stage.counter("cluster.app.upstream_rq_total") == 2
        assert stage.counter("cluster.app.upstream_rq_404") == 1
        assert stage.counter("cluster.app.upstream_rq_active") == 0
        assert len(stage.worker.deadlines) == 0

    play(scene)


def test_a_body_has_its_length_and_the_timeout_is_said() -> None:
    async def scene() -> None:
        stage = Stage(ROUTE)
        head = own_head(b"POST", b"/check", b"authz", [(b"content-length", b"5")], timeout=0.25)
        Caller(stage, head=head, body=b"hello").request.send()
        written = (await stage.upstream()).take()
        assert b"x-envoy-expected-rq-timeout-ms: 250\r\n" in written
        assert written.endswith(b"\r\n\r\nhello")
        assert b"transfer-encoding" not in written

    play(scene)


def test_a_cluster_that_is_not_there_fails_at_once() -> None:
    async def scene() -> None:
        caller = Caller(Stage(ROUTE), cluster="gone")
        caller.request.send()
        assert caller.failures == [NoCluster]

    play(scene)


def test_the_breaker_refuses_and_nothing_is_held() -> None:
    async def scene() -> None:
        stage = Stage(ROUTE, {"app": "circuit_breakers: {thresholds: [{max_pending_requests: 0}]}"})
        caller = Caller(stage, timeout=5.0)
        caller.request.send()
        assert caller.failures == [Overflow]
        assert len(stage.worker.deadlines) == 0

    play(scene)


def test_a_timeout_resets_the_connection_and_counts() -> None:
    async def scene() -> None:
        stage = Stage(ROUTE)
        caller = Caller(stage, timeout=0.02)
        caller.request.send()
        upstream = await stage.upstream()
        await stage.until(lambda: caller.failures)
        assert caller.failures == [RequestTimedOut]
        assert upstream.is_closed
        await stage.settle()
        assert stage.counter("cluster.app.upstream_rq_timeout") == 1
        assert stage.counter("cluster.app.upstream_rq_504") == 1
        assert stage.counter("cluster.app.upstream_rq_active") == 0

    play(scene)


def test_cancelled_it_is_told_nothing() -> None:
    async def scene() -> None:
        stage = Stage(ROUTE)
        waiting, sent = Caller(stage), Caller(stage)
        waiting.request.send()
        waiting.request.cancel()
        sent.request.send()
        upstream = await stage.upstream()
        assert upstream.take()
        sent.request.cancel()
        sent.request.cancel()
        await stage.settle()
        assert upstream.is_closed
        for caller in (waiting, sent):
            assert not caller.responses
            assert not caller.failures
        assert stage.counter("cluster.app.upstream_rq_active") == 0
        assert stage.counter("cluster.app.upstream_rq_pending_active") == 0

    play(scene)


def test_a_response_that_is_too_long_is_given_up() -> None:
    async def scene() -> None:
        stage = Stage(ROUTE)
        caller = Caller(stage)
        caller.request.send()
        upstream = await stage.upstream()
        upstream.comes(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * RESPONSE_LIMIT))
        upstream.comes(b"x" * (RESPONSE_LIMIT + 1))
        assert caller.failures == [ResponseTooLarge]
        assert upstream.is_closed

    play(scene)


def test_it_is_tried_again_as_its_policy_says() -> None:
    policy = RetryPolicy(frozenset(("5xx", "connect-failure")), count=2, base=0.001, longest=0.002)

    async def scene() -> None:
        stage = Stage(ROUTE)
        caller = Caller(stage, retry=policy)
        caller.request.send()
        upstream = await stage.upstream()
        upstream.take()
        upstream.comes(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
        await stage.until(lambda: upstream.written)
        upstream.ends()
        assert not caller.failures
        await stage.until(lambda: len(stage.upstreams) == 2)
        (await stage.upstream(1)).comes(OK)
        assert caller.responses == [(200, b"ok")]
        assert stage.counter("cluster.app.upstream_rq_retry") == 2

    play(scene)


def test_its_retries_end_and_may_be_cancelled() -> None:
    policy = RetryPolicy(frozenset(("5xx",)), count=1, base=0.001, longest=0.002)

    async def scene() -> None:
        stage = Stage(ROUTE, {"app": "port: 81"})
        stage.refused_ports.add(81)
        patient = RetryPolicy(policy.on, count=1, base=1e6, longest=1e6)
        caller, given_up = Caller(stage, retry=policy), Caller(stage, retry=patient)
        caller.request.send()
        await stage.until(lambda: caller.failures)
        assert caller.failures == [ConnectFailed]
        assert stage.counter("cluster.app.upstream_rq_retry_limit_exceeded") == 1
        given_up.request.send()
        await stage.until(lambda: stage.counter("cluster.app.upstream_rq_retry") == 2)
        given_up.request.cancel()
        assert len(stage.worker.deadlines) == 0
        assert stage.clusters["app"].stats.retries_active == 0
        assert not given_up.failures

    play(scene)


class Pieces(AsyncStream):
    """Writes down what it is told."""

    __slots__ = ("told",)

    def __init__(self, *arguments: Any) -> None:
        AsyncStream.__init__(self, *arguments)
        self.told: list[Any] = []

    def on_head(self, head: ResponseHead) -> None:
        self.told.append(head.status)

    def on_payload(self, payload: bytes) -> None:
        self.told.append(payload)

    def on_end(self) -> None:
        self.told.append("end")

    def on_failure(self, failure: Any) -> None:
        self.told.append(type(failure))

    def on_unblocked(self) -> None:
        self.told.append("more")


def test_a_stream_goes_and_comes_in_pieces() -> None:
    async def scene() -> None:
        stage = Stage(ROUTE)
        stream = Pieces(stage.worker, "app", own_head(b"POST", b"/log", b"als"))
        stream.start(b"one", done=False)
        stream.send_payload(b"two", done=False)
        upstream = await stage.upstream()
        assert upstream.take().endswith(b"3\r\none\r\n3\r\ntwo\r\n")
        upstream.protocol.pause_writing()
        assert stream.is_blocked
        upstream.protocol.resume_writing()
        stream.send_payload(b"three", done=True)
        assert upstream.take() == b"5\r\nthree\r\n0\r\n\r\n"
        upstream.comes(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
        upstream.comes(b"cd")
        assert stream.told == ["more", 200, b"ab", b"cd", "end"]
        stream.send_payload(b"late", done=True)
        assert upstream.take() == b""

    play(scene)


def test_a_stream_hears_of_a_broken_connection() -> None:
    async def scene() -> None:
        stage = Stage(ROUTE)
        stream = Pieces(stage.worker, "app", own_head(b"GET", b"/", b"a"))
        stream.start()
        upstream = await stage.upstream()
        upstream.comes(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
        upstream.ends(ConnectionResetError())
        assert stream.told == [200, b"ab", UpstreamBroke]

    play(scene)
