"""Names that certificates have (subject alternative names), and whether one is the name that is wanted."""

from __future__ import annotations

import socket
from collections.abc import Callable

Matcher = Callable[[str, str], bool]  # of a kind and a value, as `SSLObject.getpeercert` has them
DNS, IP = "DNS", "IP Address"
_ACE = "xn--"  # begins a label that stands for other letters (RFC 5890 section 2.3.2.1)


def of_kind(kind: str, match: Callable[[bytes], bool]) -> Matcher:
    """Whether a name of this kind, as Envoy writes it, is what `match` takes."""
    return lambda theirs, value: theirs == kind and match(written(kind, value).encode())


def of_host(host: str) -> Matcher:
    """Whether a DNS name stands for the host, perhaps by a wildcard."""
    return lambda kind, value: kind == DNS and stands_for(value, host)


def of_any_kind(name: str) -> Matcher:
    """The same, or a name of another kind that is just that."""
    return lambda kind, value: stands_for(value, name) if kind == DNS else written(kind, value) == name


def stands_for(pattern: str, host: str) -> bool:
    """Envoy's `dnsNameMatch`: letters of either case, and one `*` in the first of several labels."""
    pattern, host = pattern.lower(), host.lower()
    if pattern == host:
        return True
    first, _, rest = pattern.partition(".")
    label, _, domain = host.partition(".")
    if not rest or rest != domain or "*" in rest or first.count("*") != 1 or first.startswith(_ACE):
        return False
    before, _, after = first.partition("*")
    return len(label) >= len(first) - 1 and label.startswith(before) and label.endswith(after)


def written(kind: str, value: str) -> str:
    """A name as Envoy writes it: Python does not shorten IPv6 addresses."""
    if kind != IP or ":" not in value:
        return value
    return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, value.strip()))
