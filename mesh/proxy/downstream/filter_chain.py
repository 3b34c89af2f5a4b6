"""Filter chains: which of a listener's chains a connection gets (Envoy's `FilterChainMatch`). Compiled; does no I/O.

The criteria of all chains are made into a tree, level by level in Envoy's order. A connection walks down it once: on
each level it takes the branch that fits most closely and never comes back for another.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mesh.proxy.downstream.connection_info import ConnectionInfo
from mesh.proxy.downstream.listener_filters.listener_filter import ListenerFilter
from mesh.proxy.downstream.network_filters.network_filter import NetworkFilter
from mesh.proxy.downstream.socket_options import SocketOptions
from mesh.proxy.downstream.tcp import TcpConfig
from mesh.proxy.http.config import HttpConfig
from mesh.proxy.observe.downstream_counters import ListenerStats
from mesh.proxy.tls.transport_socket import ServerTls

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
SAME_IP_OR_LOOPBACK, EXTERNAL = 1, 2  # FilterChainMatch.ConnectionSourceType


@dataclass(frozen=True, slots=True)
class ChainMatch:
    """`FilterChainMatch`. Empty fields match everything."""

    destination_port: int = 0
    prefix_ranges: tuple[Network, ...] = ()
    server_names: tuple[str, ...] = ()
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()
    direct_source_prefix_ranges: tuple[Network, ...] = ()
    source_type: int = 0
    source_prefix_ranges: tuple[Network, ...] = ()
    source_ports: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class FilterChain:
    """One filter chain: `filters` admit a connection, `config` serves it. `source` is its protobuf's bytes: chains
    that stay the same keep their connections.
    """

    name: str
    match: ChainMatch
    tls: ServerTls | None
    handshake_timeout: float  # of TLS, in seconds; 0 for none
    filters: tuple[NetworkFilter, ...]
    config: HttpConfig | TcpConfig
    source: bytes


@dataclass(slots=True, eq=False)
class ListenerConfig:
    """A compiled listener. `addresses` are (ip, port); the first is its main one. Times in seconds, 0 for none."""

    name: str
    addresses: tuple[tuple[str, int], ...]
    chains: tuple[FilterChain, ...]
    default_chain: FilterChain | None
    find: Find
    filters: tuple[ListenerFilter, ...]
    filters_timeout: float
    continues_on_timeout: bool
    uses_original_dst: bool
    binds: bool
    ignores_global_limit: bool
    drains_when_failing: bool  # drain_type DEFAULT: `/healthcheck/fail` drains it
    socket_options: SocketOptions
    stats: ListenerStats
    log_steps: tuple[Callable[[Any], None], ...] = ()  # at the end of each connection

    @property
    def only_chain(self) -> FilterChain | None:
        """The chain of every connection, if nothing has to be known of it first."""
        if self.filters or self.uses_original_dst or self.log_steps or len(self.chains) != 1:
            return None
        only = self.chains[0]
        return only if only.match == ChainMatch() and not only.filters else None


class Overlap(ValueError):
    """Two chains match the same."""


Find = Callable[[ConnectionInfo], FilterChain | None]
_Key = Any
_Keys = Callable[[ChainMatch], Iterable[_Key]]  # under which a chain stands on a level; none: it matches everything
_Level = Callable[[Mapping[_Key, Find], Find], Find]  # branches by key, and that of the rest


def chain_finder(chains: Iterable[FilterChain], default: FilterChain | None) -> Find:
    """The walk down the tree of these chains. Raises Overlap."""
    walk = _grow(tuple(chains), 0)
    if default is None:
        return walk
    return lambda info: walk(info) or default


def _grow(chains: tuple[FilterChain, ...], depth: int) -> Find:
    if not chains:
        return _nothing
    if depth == len(_LEVELS):
        if len(chains) > 1:
            raise Overlap(f"{chains[0].name or 'a chain'} and {chains[1].name or 'another'} match the same")
        chain = chains[0]
        return lambda info: chain
    keys, level = _LEVELS[depth]
    branches: dict[_Key, list[FilterChain]] = {}
    rest = []
    for chain in chains:
        mine = dict.fromkeys(keys(chain.match))
        if not mine:
            rest.append(chain)
        for key in mine:
            branches.setdefault(key, []).append(chain)
    remaining = _grow(tuple(rest), depth + 1)
    if not branches:
        return remaining
    return level({key: _grow(tuple(group), depth + 1) for key, group in branches.items()}, remaining)


def _nothing(info: ConnectionInfo) -> None:
    return None


def _exact(key: Callable[[ConnectionInfo], _Key]) -> _Level:
    def level(branches: Mapping[_Key, Find], rest: Find) -> Find:
        return lambda info: branches.get(key(info), rest)(info)

    return level


def _server_names(branches: Mapping[str, Find], rest: Find) -> Find:
    """The whole name, then `*.` and each part after a dot."""

    def walk(info: ConnectionInfo) -> FilterChain | None:
        name = info.server_name
        found = branches.get(name) if name else None
        while found is None and name:
            name = name.partition(".")[2]
            found = branches.get(f"*.{name}") if name else None
        return (found or rest)(info)

    return walk


def _application_protocols(branches: Mapping[str, Find], rest: Find) -> Find:
    def walk(info: ConnectionInfo) -> FilterChain | None:
        found = next((branches[name] for name in info.application_protocols if name in branches), rest)
        return found(info)

    return walk


def _prefixes(ip: Callable[[ConnectionInfo], str]) -> _Level:
    def level(branches: Mapping[Network, Find], rest: Find) -> Find:
        tables: dict[tuple[int, int], dict[int, Find]] = {}
        for network, branch in branches.items():
            shift = network.max_prefixlen - network.prefixlen
            tables.setdefault((network.version, shift), {})[int(network.network_address) >> shift] = branch
        longest_first = sorted(tables.items(), key=lambda item: item[0][1])

        def walk(info: ConnectionInfo) -> FilterChain | None:
            try:
                address = ipaddress.ip_address(ip(info))
            except ValueError:
                return rest(info)
            value = int(address)
            for (version, shift), table in longest_first:
                if version == address.version and (found := table.get(value >> shift)) is not None:
                    return found(info)
            return rest(info)

        return walk

    return level


def _source_type(branches: Mapping[int, Find], rest: Find) -> Find:
    def walk(info: ConnectionInfo) -> FilterChain | None:
        return branches.get(SAME_IP_OR_LOOPBACK if is_local(info) else EXTERNAL, rest)(info)

    return walk


def is_local(info: ConnectionInfo) -> bool:
    """Whether the client is on this machine, as far as addresses tell."""
    source = info.remote[0]
    return source == info.local[0] or (source != "" and ipaddress.ip_address(source).is_loopback)


_LEVELS: tuple[tuple[_Keys, _Level], ...] = (
    (lambda match: (match.destination_port,) if match.destination_port else (), _exact(lambda info: info.local[1])),
    (lambda match: match.prefix_ranges, _prefixes(lambda info: info.local[0])),
    (lambda match: match.server_names, _server_names),
    (
        lambda match: (match.transport_protocol,) if match.transport_protocol else (),
        _exact(lambda info: info.transport_protocol),
    ),
    (lambda match: match.application_protocols, _application_protocols),
    (lambda match: match.direct_source_prefix_ranges, _prefixes(lambda info: info.direct_remote[0])),
    (lambda match: (match.source_type,) if match.source_type else (), _source_type),
    (lambda match: match.source_prefix_ranges, _prefixes(lambda info: info.remote[0])),
    (lambda match: match.source_ports, _exact(lambda info: info.remote[1])),
)
