"""The servers of a gateway's port; those with TLS as filter chains by the name that the client asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from mesh.api.gateway import Gateway, Server, ServerTLSMode, ServerTLSSettings
from mesh.snapshot.credentials import CredentialIndex
from mesh.snapshot.order import host_matches
from mesh.snapshot.virtual_services import BoundVirtualService
from mesh.xds.compile import outbound, tls
from mesh.xds.compile.destinations import Destinations
from mesh.xds.compile.filters import SOURCE, http_filter, tcp_filters
from mesh.xds.compile.matching import Listening
from mesh.xds.compile.outbound import Hop
from mesh.xds.compile.proxy import Engine

_HTTP: Final = frozenset({"HTTP", "HTTP2", "GRPC"})
_ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class BoundServer:
    """A Gateway's server and the VirtualServices bound to that Gateway, oldest first."""

    gateway: Gateway
    server: Server
    virtual_services: tuple[BoundVirtualService, ...]

    @property
    def gateway_name(self) -> str:
        return f"{self.gateway.namespace}/{self.gateway.name}"

    @property
    def redirects(self) -> bool:
        return self.server.tls is not None and self.server.tls.https_redirect

    @property
    def protocol(self) -> str:
        return self.server.port.protocol.upper() if self.server.port is not None else ""

    @property
    def is_plain(self) -> bool:
        """Whether clients speak HTTP without TLS."""
        return self.protocol in _HTTP

    def hosts_for(self, namespace: str) -> Iterator[str]:
        """Its hosts for VirtualServices of a namespace: `ns/host`, `*/host`, `./host` or just `host`."""
        for entry in self.server.hosts:
            scope, _, host = entry.rpartition("/")
            if scope in ("", "*", namespace) or (scope == "." and namespace == self.gateway.namespace):
                yield host

    def listening(self, number: int) -> Listening:
        return Listening(number, frozenset({self.gateway_name}), self.gateway.namespace, frozenset())


@dataclass(frozen=True, slots=True)
class TlsChain:
    """What becomes of clients that ask for `server_names`, none standing for any: requests go by the route
    configuration `routes`, connections to `hop`. `settings` None passes TLS on as it is.
    """

    server: BoundServer
    server_names: tuple[str, ...]
    settings: ServerTLSSettings | None
    routes: str = ""
    hop: Hop | None = None


def tls_chains(
    servers: Iterable[BoundServer],
    number: int,
    credentials: CredentialIndex,
    namespace: str,
    destinations: Destinations,
) -> Iterator[TlsChain]:
    """Each server name once, the oldest Gateway's. A server whose credential is not there has no chain: proxies would
    wait for it, and everything else on the port with them.
    """
    seen: set[str] = set()
    for bound in servers:
        settings = bound.server.tls
        if settings is None or not _is_complete(settings, credentials, namespace):
            continue
        for chain in _of_server(bound, settings, number, destinations):
            names = tuple(name for name in chain.server_names if name not in seen)
            if names:
                seen.update(names)
                yield TlsChain(chain.server, names, chain.settings, chain.routes, chain.hop)


def tls_filter_chain(
    chain: TlsChain,
    prefix: str,
    engine: Engine,
    trust_domain: str,
    *,
    guards: Sequence[HttpFilter],
    network_guards: Sequence[Filter],
) -> FilterChain:
    """`prefix` names the listener in statistics; `guards` are the policies for requests, and for connections."""
    if chain.hop is not None:
        passing = tcp_filters(prefix, engine, SOURCE, chain.hop.clusters, chain.hop.hashes_source_ip)
        filters = [*network_guards, *passing]
    else:
        filters = [http_filter(prefix, engine, SOURCE, chain.routes, guards, at_gateway=True)]
    names = [] if _ANY in chain.server_names else list(chain.server_names)
    match = FilterChainMatch(server_names=names, transport_protocol="tls")
    result = FilterChain(filter_chain_match=match, filters=filters)
    if chain.settings is not None:
        result.transport_socket.CopyFrom(tls.gateway_server(chain.settings, trust_domain, http=chain.hop is None))
    return result


def secrets(chains: Iterable[TlsChain], credentials: CredentialIndex, namespace: str) -> Iterator[Secret]:
    """Whatever these chains ask for over SDS, each once."""
    asked = dict.fromkeys(name for own in chains if own.settings is not None for name in _key_names(own.settings))
    for name in asked:
        pair = credentials.pair(namespace, name)
        if pair is not None:
            yield tls.key_secret(name, pair)
    trusted = (own.settings for own in chains if own.settings is not None and tls.asks_clients(own.settings))
    for name in dict.fromkeys(tls.trust_name(own) for own in trusted if tls.trust_name(own)):
        yield tls.trust_secret(name, credentials.trust(namespace, name))


def _key_names(settings: ServerTLSSettings) -> Sequence[str]:
    return () if settings.mode is ServerTLSMode.ISTIO_MUTUAL else tls.key_names(settings)


def _is_complete(settings: ServerTLSSettings, credentials: CredentialIndex, namespace: str) -> bool:
    if settings.mode in (ServerTLSMode.PASSTHROUGH, ServerTLSMode.ISTIO_MUTUAL):
        return True
    if any(credentials.pair(namespace, name) is None for name in tls.key_names(settings)):
        return False
    trust = tls.trust_name(settings)
    return not (tls.asks_clients(settings) and trust) or bool(credentials.trust(namespace, trust))


def _of_server(
    bound: BoundServer, settings: ServerTLSSettings, number: int, destinations: Destinations
) -> Iterator[TlsChain]:
    hosts = tuple(dict.fromkeys(host.rpartition("/")[2] for host in bound.server.hosts))
    own = (_ANY,) if _ANY in hosts else hosts
    at = bound.listening(number)
    if settings.mode is ServerTLSMode.PASSTHROUGH:
        for virtual_service in bound.virtual_services:
            allowed = list(bound.hosts_for(virtual_service.namespace))
            for names, hop in outbound.tls_hops(virtual_service, at, destinations):
                chosen = tuple(name for name in names if any(host_matches(own, name) for own in allowed))
                yield TlsChain(bound, chosen, None, hop=hop)
    elif bound.protocol == "HTTPS":
        port = bound.server.port
        label = port.name if port is not None else ""
        routes = f"https.{number}.{label}.{bound.gateway.name}.{bound.gateway.namespace}"
        yield TlsChain(bound, own, settings, routes)
    else:
        hops = (outbound.tcp_hop(each, at, destinations) for each in bound.virtual_services)
        found = next((hop for hop in hops if hop is not None), None)
        if found is not None:
            yield TlsChain(bound, own, settings, hop=found)
