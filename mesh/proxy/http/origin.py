"""What a connection manager says to its upstreams of where a request came from: x-forwarded-for and what belongs to it.

Envoy's `mutateRequestHeaders`. Each connection manager gets the one function that its configuration asks for; whose
address the client's is (`client_of`) is worked out when a log or a filter wants to know.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from mesh.proxy.upstream.local_address import local_ip

if TYPE_CHECKING:
    from mesh.proxy.http.codec import ResponseEncoder
    from mesh.proxy.http.stream import Stream
    from mesh.proxy.http1.head import RequestHead

Mark = Callable[["Stream"], None]
_LONGEST_IP = 45
_SCHEMES = frozenset((b"http", b"https"))


def mark_scheme(stream: Stream) -> None:
    """Behind another proxy: what that one said stays. If it said nothing, in an empty header, there is no route."""
    head, connection = stream.head, stream.connection
    said = head.marked.get(b"x-forwarded-proto")
    if said is None:
        head.lines.append(connection.forwarded_proto)
        head.marked[b"x-forwarded-proto"] = connection.scheme
    elif said not in _SCHEMES and said.lower() not in _SCHEMES:
        head.marked.setdefault(b":scheme", connection.scheme)
        if not said:
            stream.config = stream.config.without_routes()


def want_scheme(stream: Stream) -> None:
    """At an edge that trusts proxies in front: an empty header of theirs means the same as behind another proxy."""
    if not stream.head.marked.get(b"x-forwarded-proto"):
        stream.config = stream.config.without_routes()


def append_address(stream: Stream) -> None:
    """Put the client's address behind those that x-forwarded-for has."""
    _append_address(stream.head, stream.connection)


def _append_address(head: RequestHead, connection: ResponseEncoder) -> None:
    before = head.marked.get(b"x-forwarded-for")
    remote = _told(connection.remote_ip)
    head.set(b"x-forwarded-for", b"%b,%b" % (before, remote) if before else remote)


def _told(ip: bytes) -> bytes:
    """Envoy tells this machine's own address in place of loopback, which means nothing to anybody else."""
    return local_ip().encode() if ip.startswith(b"127.") or ip == b"::1" else ip


def edge(*, hops: int, appends: bool, appends_port: bool) -> Mark:
    """With `use_remote_address`: `hops` of the proxies in front are trusted (xff_num_trusted_hops)."""

    def mark(stream: Stream) -> None:
        head, connection = stream.head, stream.connection
        marked = head.marked
        if b"x-envoy-internal" not in marked:
            trusted = client_of(marked.get(b"x-forwarded-for", b""), hops) if hops else None
            head.set(b"x-envoy-external-address", connection.remote_ip if trusted is None else trusted.encode())
        if appends:
            _append_address(head, connection)
        if not hops or b"x-forwarded-proto" not in marked:
            head.set(b"x-forwarded-proto", connection.scheme)
        if appends_port and (not hops or head.get(b"x-forwarded-port") is None):
            port = connection.info.local[1] if connection.info is not None else 0
            head.set(b"x-forwarded-port", b"%d" % port)

    return mark


def with_scheme(scheme: bytes) -> Mark:
    """`scheme_to_overwrite` stands over what client and proxies have said."""

    def mark(stream: Stream) -> None:
        head = stream.head
        head.set(b"x-forwarded-proto", scheme)
        head.marked[b":scheme"] = scheme

    return mark


def with_via(via: bytes) -> Mark:
    """Append to the `via` header."""

    def mark(stream: Stream) -> None:
        head = stream.head
        before = head.get(b"via")
        head.set(b"via", via if before is None else b"%b, %b" % (before, via))

    return mark


def with_user_agent(cluster: bytes, node: bytes) -> Mark:
    """`add_user_agent`: name this proxy's service."""

    def mark(stream: Stream) -> None:
        head = stream.head
        head.set(b"x-envoy-downstream-service-cluster", cluster)
        if not head.marked.get(b"user-agent"):
            head.set(b"user-agent", cluster)
        if node:
            head.set(b"x-envoy-downstream-service-node", node)

    return mark


def all_of(marks: list[Mark]) -> Mark:
    """One function of several, in order."""
    if len(marks) == 1:
        return marks[0]

    def mark(stream: Stream) -> None:
        for each in marks:
            each(stream)

    return mark


def client_of(forwarded: bytes, place: int) -> str | None:
    """The address at a place of x-forwarded-for, counted from its end by 1; None if there is none that is one."""
    entries = forwarded.rsplit(b",", place)
    if len(entries) < place:
        return None
    entry = entries[-place].strip()
    return _address(entry) if len(entry) <= _LONGEST_IP else None


@lru_cache(1024)
def _address(entry: bytes) -> str | None:
    try:
        return str(ipaddress.ip_address(entry.decode("ascii")))
    except ValueError:
        return None
