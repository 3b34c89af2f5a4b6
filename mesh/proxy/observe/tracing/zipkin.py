"""Zipkin: contexts in B3 headers (and W3C's, if asked for), spans as its JSON, version 2."""

from __future__ import annotations

import re
from json.encoder import encode_basestring
from typing import TYPE_CHECKING

from mesh.proxy.observe.tracing import w3c
from mesh.proxy.observe.tracing.span import Span, Tags, new_id, put

if TYPE_CHECKING:
    from mesh.proxy.http1.head import RequestHead
    from mesh.proxy.observe.tracing.reporter import Reporter
    from mesh.proxy.runtime import Worker

_TRACE, _SPAN, _PARENT, _SAMPLED, _FLAGS, _SINGLE = (
    b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags", b"b3",
)  # fmt: skip
_ID = re.compile(rb"[0-9a-fA-F]{16}")
_TRACE_ID = re.compile(rb"(?:[0-9a-fA-F]{16}){1,2}")
_ONE = re.compile(rb"((?:[0-9a-fA-F]{16}){1,2})-([0-9a-fA-F]{16})(?:-([01d])(?:-([0-9a-fA-F]{16}))?)?")
_SAMPLED_ALONE = re.compile(rb"[01d]")


# Names of tags that every span has, as JSON.
_KEYS = {
    name: encode_basestring(name)
    for name in (
        "guid:x-request-id", "http.url", "http.method", "downstream_cluster", "user_agent", "http.protocol",
        "peer.address", "request_size", "response_size", "component", "upstream_cluster", "upstream_cluster.name",
        "http.status_code", "response_flags",
    )
}  # fmt: skip


class Zipkin:
    """`ZipkinConfig`, as a `Provider`."""

    __slots__ = ("_endpoint", "_is_long", "_is_shared", "_node_tag", "_reporter", "_with_w3c")

    def __init__(
        self, reporter: Reporter, service: str, ip: str, node_id: str, *, is_long: bool, is_shared: bool, with_w3c: bool
    ) -> None:
        self._reporter = reporter
        family = "ipv6" if ":" in ip else "ipv4"
        self._endpoint = f'{{"{family}":{encode_basestring(ip)},"port":0,"serviceName":{encode_basestring(service)}}}'
        self._node_tag = f'"node_id":{encode_basestring(node_id)}'
        self._is_long = is_long
        self._is_shared = is_shared
        self._with_w3c = with_w3c

    def default_name(self, head: RequestHead, *, is_client: bool) -> str:
        return head.authority.decode("latin-1")

    # Contexts

    def begin(self, head: RequestHead, *, is_client: bool, is_traced: bool) -> Span | None:
        marked = head.marked
        single = marked.get(_SINGLE)
        if single is not None:
            return self._of_single(single, is_client, is_traced)
        sampled = is_traced
        said = marked.get(_SAMPLED)
        if said is not None:
            sampled = said.lower() in (b"1", b"true")
        elif marked.get(_FLAGS) == b"1":
            sampled = True
        trace_id, span_id = marked.get(_TRACE), marked.get(_SPAN)
        if trace_id is not None and span_id is not None:
            parent = marked.get(_PARENT, b"")
            if _TRACE_ID.fullmatch(trace_id) is None or _ID.fullmatch(span_id) is None:
                return None
            if parent and _ID.fullmatch(parent) is None:
                return None
            return self._continue(trace_id, span_id, parent, is_client, sampled)
        if self._with_w3c and (context := marked.get(w3c.PARENT)) is not None:
            found = w3c.parse(context)
            if found is None:
                return None
            return self._continue(found[0], found[1], b"", is_client, found[2] if said is None else sampled)
        return self._first(is_client, sampled)

    def _of_single(self, value: bytes, is_client: bool, is_traced: bool) -> Span | None:
        if _SAMPLED_ALONE.fullmatch(value) is not None:
            span = self._first(is_client, value != b"0")
        elif (found := _ONE.fullmatch(value)) is not None:
            sampled = is_traced if found[3] is None else found[3] != b"0"
            span = self._continue(found[1], found[2], found[4] or b"", is_client, sampled)
        else:
            return None
        span.form = "single"
        return span

    def _first(self, is_client: bool, sampled: bool) -> Span:
        span_id = new_id()
        trace_id = new_id() + span_id if self._is_long else span_id
        return Span(trace_id, span_id, "", is_client=is_client, is_sampled=sampled)

    def _continue(self, trace_id: bytes, span_id: bytes, parent: bytes, is_client: bool, sampled: bool) -> Span:
        trace, before = trace_id.decode().lower(), span_id.decode().lower()
        if is_client or not self._is_shared:
            return Span(trace, new_id(), before, is_client=is_client, is_sampled=sampled)
        return Span(trace, before, parent.decode().lower(), is_client=False, is_sampled=sampled)

    def inject(self, span: Span, head: RequestHead) -> None:
        if span.form == "single":
            parent = f"-{span.parent}" if span.parent else ""
            sampled = int(span.is_sampled)
            put(head, ((_SINGLE, f"{span.trace_id}-{span.span_id}-{sampled}{parent}".encode()),))
        else:
            ids = (_TRACE, span.trace_id.encode()), (_SPAN, span.span_id.encode())
            above = ((_PARENT, span.parent.encode()),) if span.parent else ()
            put(head, (*ids, *above, (_SAMPLED, b"1" if span.is_sampled else b"0")))
        if self._with_w3c:
            put(head, ((w3c.PARENT, w3c.text(span)),))

    # Reports

    def report(self, worker: Worker, span: Span, tags: Tags, *, is_error: bool, is_local: bool) -> None:
        quoted = encode_basestring
        texts = [f"{_KEYS.get(name) or quoted(name)}:{quoted(value)}" for name, value in tags]
        if is_local:
            texts.append(self._node_tag)
        parent = f'"parentId":"{span.parent}",' if span.parent else ""
        kind = '"CLIENT"' if span.is_client else '"SERVER","shared":true' if self._is_shared else '"SERVER"'
        started, ended = int(span.started * 1e6), int(span.ended * 1e6)
        text = (
            f'{{"traceId":"{span.trace_id}","id":"{span.span_id}",{parent}"name":{quoted(span.name)},"kind":{kind},'
            f'"timestamp":{started},"duration":{max(1, ended - started)},"localEndpoint":{self._endpoint},'
            f'"annotations":[{{"timestamp":{ended},"value":"{"cr" if span.is_client else "ss"}"}}],'
            f'"tags":{{{",".join(texts)}}}}}'
        )
        self._reporter.add(worker, text.encode("utf-8", "replace"))


def joined(spans: list[bytes]) -> bytes:
    """The body of a report."""
    return b"[%b]" % b",".join(spans)
