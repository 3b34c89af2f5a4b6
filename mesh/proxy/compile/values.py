"""Small protobuf values: durations, percentages, addresses, string matchers."""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Callable
from typing import Any

import re2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from mesh.proxy.fields import Place, check

_TRANSPORT_LIMIT = 64 * 1024  # asyncio's and uvloop's
BytesMatch = Callable[[bytes], bool]

STRING_MATCHER = {
    "envoy.type.matcher.v3.StringMatcher": frozenset(
        ("exact", "prefix", "suffix", "safe_regex", "contains", "ignore_case")
    ),
    "envoy.type.matcher.v3.RegexMatcher": frozenset(("regex", "google_re2")),
    "envoy.type.matcher.v3.RegexMatcher.GoogleRE2": frozenset(),
}
ADDRESS = {
    "envoy.config.core.v3.Address": frozenset(("socket_address",)),
    "envoy.config.core.v3.SocketAddress": frozenset(("protocol", "address", "port_value", "resolver_name")),
}
_SUBSTITUTION = re.compile(rb"([^\\]+)|\\(.?)", re.DOTALL)
PARTS = {0: 100, 1: 10_000, 2: 1_000_000}


def seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def seconds_or(message: Any, field: str, default: float) -> float:
    """The seconds of a duration field, or the default where it is not set."""
    return seconds(getattr(message, field)) if message.HasField(field) else default


def value_or(message: Any, field: str, default: Any) -> Any:
    """The value of a wrapper field, or the default where it is not set."""
    return getattr(message, field).value if message.HasField(field) else default


def parts_of(fraction: Any) -> int:
    """What a FractionalPercent's numerator is a part of."""
    return PARTS[fraction.denominator]


def chance(fraction: Any) -> Callable[[], bool]:
    """A fresh draw with the probability of a FractionalPercent."""
    share = fraction.numerator / parts_of(fraction)
    if share >= 1:
        return lambda: True
    if share <= 0:
        return lambda: False
    return lambda: random.random() < share


def socket_address(address: Any, place: Place) -> tuple[str, int]:
    check(address, ADDRESS, place)
    if address.WhichOneof("address") != "socket_address":
        raise place.refuse("only socket_address is supported")
    if address.socket_address.protocol != 0:
        raise place.refuse("only TCP is supported", "socket_address.protocol")
    return address.socket_address.address, address.socket_address.port_value


def write_limit(buffer_limit: int) -> int:
    """per_connection_buffer_limit_bytes for a transport's writes; 0 where the transport's own limit is lower."""
    return buffer_limit if buffer_limit < _TRANSPORT_LIMIT else 0


def networks(ranges: Any, place: Place) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """CidrRange messages."""
    try:
        return tuple(
            ipaddress.ip_network(f"{each.address_prefix}/{each.prefix_len.value}", strict=False) for each in ranges
        )
    except ValueError as error:
        raise place.refuse(str(error)) from error


def regex(matcher: Any, place: Place) -> Any:
    """The compiled RE2 expression of a RegexMatcher, over bytes."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    try:
        return re2.compile(matcher.regex.encode(), options)
    except re2.error as error:
        raise place.refuse(f"bad regex {matcher.regex!r}: {error}", "regex") from error


def replacer(rewrite: Any, place: Place) -> Callable[[bytes], bytes]:
    """A RegexMatchAndSubstitute: every match replaced; `\\1` is a group, `\\0` the match, `\\\\` a backslash (RE2)."""
    pattern = regex(rewrite.pattern, place.at("pattern"))
    parts: list[bytes | int] = []
    for literal, escaped in _SUBSTITUTION.findall(rewrite.substitution.encode()):
        if literal or escaped == b"\\":
            parts.append(literal or escaped)
        elif escaped.isdigit() and int(escaped) <= pattern.groups:
            parts.append(int(escaped))
        else:
            raise place.refuse(f"bad escape in {rewrite.substitution!r}", "substitution")
    if all(isinstance(part, bytes) for part in parts):
        constant = b"".join(part for part in parts if isinstance(part, bytes))
        return lambda text: pattern.sub(lambda match: constant, text)
    return lambda text: pattern.sub(
        lambda match: b"".join((match[part] or b"") if isinstance(part, int) else part for part in parts), text
    )


def full_match(matcher: Any, place: Place) -> BytesMatch:
    match = regex(matcher, place).fullmatch
    return lambda value: match(value) is not None


def string_match(matcher: Any, place: Place) -> BytesMatch:
    """A StringMatcher as a predicate over bytes."""
    kind = matcher.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return full_match(matcher.safe_regex, place.at("safe_regex"))
    if kind is None:
        raise place.refuse("a match pattern is required")
    wanted = getattr(matcher, kind).encode()
    if matcher.ignore_case:
        return _folded(kind, wanted.lower())
    return plain_match(kind, wanted)


def plain_match(kind: str, wanted: bytes) -> BytesMatch:
    if kind == "exact":
        return wanted.__eq__
    if kind == "prefix":
        return lambda value: value.startswith(wanted)
    if kind == "suffix":
        return lambda value: value.endswith(wanted)
    return lambda value: wanted in value


def _folded(kind: str, wanted: bytes) -> BytesMatch:
    match = plain_match(kind, wanted)
    return lambda value: match(value.lower())


def unpack(any_message: Any, kind: type[Message], place: Place) -> Any:
    """The message in an Any, which must be of this kind."""
    message = kind()
    if not any_message.Unpack(message):
        raise place.refuse(f"{any_message.type_url or 'an empty typed_config'} is not {message.DESCRIPTOR.full_name}")
    return message
