"""Filter chains: which of a listener's chains a connection gets (Envoy's `FilterChainMatch`). Compiled; does no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mesh.proxy.client_hello import ClientHello
from mesh.proxy.counters import ListenerStats
from mesh.proxy.http_config import HttpConfig
from mesh.proxy.tcp import TcpConfig
from mesh.proxy.transport_socket import ServerTls


@dataclass(frozen=True, slots=True)
class ChainMatch:
    """`FilterChainMatch`. Empty fields match everything."""

    destination_port: int = 0
    server_names: tuple[str, ...] = ()
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class FilterChain:
    """One filter chain. `source` is its protobuf's bytes: chains that stay the same keep their connections."""

    name: str
    match: ChainMatch
    tls: ServerTls | None
    config: HttpConfig | TcpConfig
    source: bytes


@dataclass(slots=True, eq=False)
class ListenerConfig:
    """A compiled listener. `addresses` are (ip, port); the first is its main one."""

    name: str
    addresses: tuple[tuple[str, int], ...]
    chains: tuple[FilterChain, ...]
    default_chain: FilterChain | None
    inspects_tls: bool
    inspection_timeout: float
    stats: ListenerStats

    @property
    def needs_peek(self) -> bool:
        """Whether the chain depends on the connection's first bytes."""
        return self.inspects_tls and any(chain.match != ChainMatch() for chain in self.chains)

    def find(self, port: int, transport: str, hello: ClientHello) -> FilterChain | None:
        """The most specific chain, criterion after criterion in Envoy's order, without going back."""
        chains = [(chain, chain.match) for chain in self.chains]
        chains = _narrow(chains, lambda m: m.destination_port == port, lambda m: not m.destination_port)
        chains = _by_server_name(chains, hello.server_name.lower())
        chains = _narrow(chains, lambda m: m.transport_protocol == transport, lambda m: not m.transport_protocol)
        alpn = set(hello.alpn)
        chains = _narrow(
            chains, lambda m: not alpn.isdisjoint(m.application_protocols), lambda m: not m.application_protocols
        )
        return chains[0][0] if chains else self.default_chain


_Chains = list[tuple[FilterChain, ChainMatch]]


def _narrow(chains: _Chains, is_named: Callable[[ChainMatch], bool], is_open: Callable[[ChainMatch], bool]) -> _Chains:
    return [item for item in chains if is_named(item[1])] or [item for item in chains if is_open(item[1])]


def _by_server_name(chains: _Chains, name: str) -> _Chains:
    wanted = [name] if name else []
    parts = name.split(".")
    wanted += ["*." + ".".join(parts[index:]) for index in range(1, len(parts))]
    for candidate in wanted:
        found = [item for item in chains if candidate in item[1].server_names]
        if found:
            return found
    return [item for item in chains if not item[1].server_names]
