"""The tree of filter chain matches against a naive reading of Envoy's rules."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy.downstream.connection_info import ConnectionInfo
from mesh.proxy.downstream.filter_chain import (
    EXTERNAL,
    SAME_IP_OR_LOOPBACK,
    ChainMatch,
    FilterChain,
    Overlap,
    chain_finder,
)

NETWORKS = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "10.1.0.0/16", "10.1.0.1/32", "0.0.0.0/0", "::/0")]


def chain(match: ChainMatch) -> FilterChain:
    config: Any = None
    return FilterChain("", match, None, 0.0, (), config, b"")


def info(
    local: tuple[str, int],
    remote: tuple[str, int],
    name: str = "",
    transport: str = "",
    protocols: tuple[str, ...] = (),
) -> ConnectionInfo:
    made = ConnectionInfo(remote, local)
    made.server_name, made.transport_protocol, made.application_protocols = name, transport, protocols
    return made


def closest(chains: Sequence[FilterChain], rank: Callable[[ChainMatch], float | None]) -> list[FilterChain]:
    """Those chains of the best rank; None does not match at all."""
    ranked = [(rank(each.match), each) for each in chains]
    best = max((r for r, _ in ranked if r is not None), default=None)
    return [each for r, each in ranked if r is not None and r == best]


def naive(chains: Sequence[FilterChain], of: ConnectionInfo) -> FilterChain | None:
    def prefix(ranges: tuple[Any, ...], ip: str) -> float | None:
        if not ranges:
            return -1
        address = ipaddress.ip_address(ip)
        return max((n.prefixlen for n in ranges if n.version == address.version and address in n), default=None)

    def named(names: tuple[str, ...]) -> float | None:
        fits = [len(n) + (n == of.server_name) for n in names if n in (of.server_name, "*." + of.server_name)
                or (n.startswith("*.") and of.server_name.endswith(n[1:]))]  # fmt: skip
        return max(fits, default=None if names else -1)

    def protocol(names: tuple[str, ...]) -> float | None:
        places = [-of.application_protocols.index(n) for n in names if n in of.application_protocols]
        return max(places, default=None if names else -99)

    def exact(wanted: Any, value: Any) -> float | None:
        return -1 if not wanted else 1 if wanted == value else None

    is_local = of.remote[0] == of.local[0] or ipaddress.ip_address(of.remote[0]).is_loopback
    left = list(chains)
    for rank in (
        lambda m: exact(m.destination_port, of.local[1]),
        lambda m: prefix(m.prefix_ranges, of.local[0]),
        lambda m: named(m.server_names),
        lambda m: exact(m.transport_protocol, of.transport_protocol),
        lambda m: protocol(m.application_protocols),
        lambda m: exact(m.source_type, SAME_IP_OR_LOOPBACK if is_local else EXTERNAL),
        lambda m: prefix(m.source_prefix_ranges, of.remote[0]),
        lambda m: -1 if not m.source_ports else 1 if of.remote[1] in m.source_ports else None,
    ):
        left = closest(left, rank)
    return left[0] if left else None


some = st.lists(st.sampled_from(NETWORKS), max_size=2, unique=True).map(tuple)
matches = st.builds(
    ChainMatch,
    destination_port=st.sampled_from((0, 80)),
    prefix_ranges=some,
    server_names=st.sampled_from(((), ("a.test",), ("*.test", "b.test"))),
    transport_protocol=st.sampled_from(("", "tls")),
    application_protocols=st.sampled_from(((), ("h2",), ("h2", "istio"))),
    source_type=st.sampled_from((0, SAME_IP_OR_LOOPBACK, EXTERNAL)),
    source_prefix_ranges=some,
    source_ports=st.sampled_from(((), (1,))),
)
addresses = st.tuples(st.sampled_from(("10.1.0.1", "10.1.2.3", "11.0.0.1", "::1", "127.0.0.1")), st.integers(0, 1))
infos = st.builds(
    info,
    addresses.map(lambda found: (found[0], 80 * found[1])),
    addresses,
    st.sampled_from(("", "a.test", "x.a.test", "b.test")),
    st.sampled_from(("tls", "raw_buffer")),
    st.sampled_from(((), ("istio", "h2"), ("h2",))),
)


@given(st.lists(matches, max_size=6, unique=True), infos)
def test_the_tree_finds_what_a_naive_reading_finds(wanted: list[ChainMatch], of: ConnectionInfo) -> None:
    chains = [chain(match) for match in wanted]
    try:
        find = chain_finder(chains, None)
    except Overlap:
        return  # two chains for the same connection: refused when compiled
    assert find(of) is naive(chains, of)


def test_chains_that_match_the_same_are_refused() -> None:
    one, two = ChainMatch(server_names=("a", "b")), ChainMatch(server_names=("b", "c"))
    with pytest.raises(Overlap):
        chain_finder([chain(one), chain(two)], None)


def test_the_default_chain_takes_the_rest() -> None:
    default = chain(ChainMatch())
    find = chain_finder([chain(ChainMatch(destination_port=80))], default)
    assert find(info(("10.0.0.1", 81), ("10.0.0.2", 1))) is default
