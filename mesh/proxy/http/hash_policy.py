"""What a request is hashed by, so that requests which belong together reach the same host (`hash_policy`).

The numbers are Envoy's: the same request gets the same key here as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.proxy.upstream.balancing.digests import xxh64

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream
    from mesh.proxy.http1.head import RequestHead

HashKey = Callable[["Stream"], int | None]
_ALL = (1 << 64) - 1


def combined(policies: Sequence[tuple[HashKey, bool]]) -> HashKey:
    """One key of several policies, each with whether it is terminal: a hash so far is enough then."""

    def key(stream: Stream) -> int | None:
        value: int | None = None
        for policy, is_terminal in policies:
            new = policy(stream)
            if new is not None:
                # Turning the old value keeps two equal policies from cancelling each other out.
                value = new if value is None else (value << 1 & _ALL | value >> 63) ^ new
            if is_terminal and value is not None:
                break
        return value

    return key


def header_key(name: bytes, rewrite: Callable[[bytes], bytes] | None) -> HashKey:
    """By a header; several values of one are taken in the order of their bytes."""

    def key(stream: Stream) -> int | None:
        joined = stream.head.get(name)
        if joined is None:
            return None
        values = _values(stream.head, name) if b"," in joined else [joined]
        value = 0
        for each in sorted(values if rewrite is None else map(rewrite, values)):
            value = xxh64(each, value)
        return value

    return key


def _values(head: RequestHead, name: bytes) -> list[bytes]:
    return [value for each, value in head.items() if each == name] or [head.get(name) or b""]


def query_key(value_of: Callable[[bytes], bytes | None]) -> HashKey:
    """By a query parameter, which `value_of` finds in a target."""

    def key(stream: Stream) -> int | None:
        value = value_of(stream.head.target)
        return None if value is None else xxh64(value)

    return key


def source_ip_key(stream: Stream) -> int | None:
    """By the client's address."""
    return xxh64(stream.remote_address.rpartition(":")[0].strip("[]").encode())


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie to hash by; `set_cookie` is what follows the value in the header that sets it, None if it is not set."""

    name: bytes
    set_cookie: bytes | None

    def key(self, stream: Stream) -> int | None:
        value = cookie_value(stream.head, self.name)
        if value:
            return xxh64(value)
        if self.set_cookie is None:
            return None
        connection = stream.connection
        addresses = f"{stream.remote_address}{connection.local_address}"
        value = b"%016x" % xxh64(addresses.encode())
        stream.set_cookie(b'%b="%b"%b' % (self.name, value, self.set_cookie))
        return xxh64(value)


def cookie_value(head: RequestHead, name: bytes) -> bytes | None:
    """The value of a request's cookie, without quotes; None if there is none of that name."""
    if head.get(b"cookie") is None:
        return None
    for pair in b";".join(_values(head, b"cookie")).split(b";"):
        key, equals, value = pair.partition(b"=")
        if equals and key.strip() == name:
            value = value.strip()
            return value[1:-1] if len(value) > 1 and value[:1] == value[-1:] == b'"' else value
    return None
