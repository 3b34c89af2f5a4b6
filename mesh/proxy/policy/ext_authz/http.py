"""An authorization service that is asked with the request's own head: 200 lets it pass, all else is the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mesh.proxy.compile.services import HttpService
from mesh.proxy.http.retry import RetryPolicy
from mesh.proxy.http.route import HeaderEdit
from mesh.proxy.http1.head import RequestHead, ResponseHead
from mesh.proxy.http1.names import MARKED
from mesh.proxy.policy.ext_authz.verdict import APPEND, DENIED, ERROR, OK, SET, Edit, Question, Verdict
from mesh.proxy.upstream.async_client import AsyncRequest, mark_own

NameMatch = Callable[[bytes], bool]
_REMOVE = b"x-envoy-auth-headers-to-remove"
_PARTIAL = b"x-envoy-auth-partial-body"
# What the service's transport says is not for the client.
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection", b"host", _REMOVE))
_SERVER_ERROR = 5


@dataclass(frozen=True, slots=True)
class HttpAuthorization:
    """A compiled `ExtAuthz.http_service`. `sends` are the request's headers that go along."""

    service: HttpService
    prefix: bytes
    sends: NameMatch
    additions: HeaderEdit | None
    upstream: NameMatch
    upstream_appended: NameMatch
    client: NameMatch | None
    client_on_success: NameMatch
    metadata: NameMatch
    retry: RetryPolicy | None

    def ask(self, question: Question, done: Callable[[Verdict], None]) -> Callable[[], None]:
        stream = question.stream
        timeout = self.service.timeout

        def answered(head: ResponseHead, body: bytes) -> None:
            head.add(b"x-envoy-upstream-service-time", b"%d" % ((time.monotonic() - request.started) * 1e3))
            done(self._judge(head, body))

        request = AsyncRequest(
            stream.worker, self.service.cluster, self._head(question),
            body=question.body or None, timeout=timeout, retry=self.retry,
            answered=answered, failed=lambda failure: done(Verdict(ERROR)),
        )  # fmt: skip
        request.send()
        return request.cancel

    def _head(self, question: Question) -> RequestHead:
        source = question.stream.head
        host = source.authority
        head = RequestHead(source.method, self.prefix + source.target, host, [b"host: %b" % host], {b"host": host})
        length = b"%d" % len(question.body)
        headers = [(b"content-length", length)]
        headers += [(n, v) for n, v in source.items() if n not in (b"host", b"content-length") and self.sends(n)]
        if question.is_partial is not None:
            headers.append((_PARTIAL, b"true" if question.is_partial else b"false"))
        for name, value in headers:
            head.lines.append(b"%b: %b" % (name, value))
            if name in MARKED:
                head.marked[name] = value
        if self.additions is not None:
            self.additions.apply(head, question.stream)
        mark_own(head, self.service.timeout, says_from=False)
        return head

    def _judge(self, head: ResponseHead, body: bytes) -> Verdict:
        if head.status // 100 == _SERVER_ERROR:
            return Verdict(ERROR)
        items = [item for item in head.items() if item[0] not in _FRAMING]
        metadata = {name.decode(): value.decode("latin-1") for name, value in items if self.metadata(name)}
        if head.status != 200:
            client = self.client
            kept = tuple(item for item in items if client is None or client(item[0]))
            return Verdict(DENIED, client=_edits(kept), status=head.status, body=body, metadata=metadata)
        upstream: list[Edit] = [(name, value, SET) for name, value in items if self.upstream(name)]
        upstream += [(name, value, APPEND) for name, value in items if self.upstream_appended(name)]
        removed = head.get(_REMOVE) or b""
        return Verdict(
            OK,
            upstream=tuple(upstream),
            removed=frozenset(name.strip().lower() for name in removed.split(b",") if name.strip()) - {b"host"},
            client=tuple((name, value, APPEND) for name, value in items if self.client_on_success(name)),
            metadata=metadata,
        )


def _edits(items: tuple[tuple[bytes, bytes], ...]) -> tuple[Edit, ...]:
    """The first of a name stands over what we would say, the others beside it."""
    seen: set[bytes] = set()
    edits: list[Edit] = []
    for name, value in items:
        edits.append((name, value, APPEND if name in seen else SET))
        seen.add(name)
    return tuple(edits)
