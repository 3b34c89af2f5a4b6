"""RequestAuthentication as Envoy's JWT filter, and the clusters that it asks for keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import SplitResult, urlsplit

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.http_uri_pb2 import HttpUri
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.route.v3.route_components_pb2 import RouteMatch
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import (
    JwtAuthentication,
    JwtClaimToHeader,
    JwtHeader,
    JwtProvider,
    JwtRequirement,
    JwtRequirementAndList,
    JwtRequirementOrList,
    RemoteJwks,
    RequirementRule,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty

from mesh.api.destination_rule import ClientTLSMode, ClientTLSSettings
from mesh.api.request_authentication import JWTRule, RequestAuthentication
from mesh.registry.types import CLUSTER_DOMAIN, Service
from mesh.xds.compile import names, tls
from mesh.xds.compile.messages import address, duration
from mesh.xds.compile.rbac import PAYLOAD

_DEFAULT_TIMEOUT: Final = timedelta(seconds=5)
_CACHE: Final = Duration(seconds=300)
_CONNECT: Final = Duration(seconds=10)
_SPACED: Final = ("scope", "permission")
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class KeySource:
    """A `jwksUri` and the cluster that answers it; `is_own` where no service does, and one is made for it."""

    uri: str
    cluster: str
    is_own: bool


def jwt_rules(policies: Iterable[RequestAuthentication]) -> list[JWTRule]:
    """Those of all policies, by issuer: the order in which Istio numbers them."""
    return sorted((rule for policy in policies for rule in policy.spec.jwt_rules), key=lambda rule: rule.issuer)


def key_sources(policies: Iterable[RequestAuthentication], services: Mapping[str, Service]) -> tuple[KeySource, ...]:
    """Where the keys of these policies are fetched."""
    uris = dict.fromkeys(rule.jwks_uri for rule in jwt_rules(policies) if rule.jwks_uri)
    return tuple(_key_source(uri, services) for uri in uris)


def authentication(policies: Iterable[RequestAuthentication], sources: Iterable[KeySource]) -> JwtAuthentication:
    """A token that is there must be good; none is as good. Whoever needs one says so in an AuthorizationPolicy."""
    clusters = {source.uri: source.cluster for source in sources}
    providers = {f"origins-{number}": _provider(rule, clusters) for number, rule in enumerate(jwt_rules(policies))}
    requirement = _requirement(list(providers))
    return JwtAuthentication(
        providers=providers,
        rules=[RequirementRule(match=RouteMatch(prefix="/"), requires=requirement)],
        bypass_cors_preflight=True,
    )


def own_clusters(sources: Iterable[KeySource]) -> Iterator[Cluster]:
    """Clusters of hosts that are no services."""
    for name, uri in {source.cluster: source.uri for source in sources if source.is_own}.items():
        yield _cluster(name, urlsplit(uri))


def _key_source(uri: str, services: Mapping[str, Service]) -> KeySource:
    parts = urlsplit(uri)
    host, number = parts.hostname or "", _port(parts)
    for full in (host, f"{host}.{CLUSTER_DOMAIN}", f"{host}.svc.{CLUSTER_DOMAIN}"):
        service = services.get(full)
        if service is not None and service.port(number) is not None:
            return KeySource(uri, names.outbound_cluster(number, "", full), is_own=False)
    return KeySource(uri, f"jwks|{parts.scheme}|{number}||{host}", is_own=True)


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS[parts.scheme]


def _cluster(name: str, parts: SplitResult) -> Cluster:
    host = parts.hostname or ""
    endpoint = LbEndpoint(endpoint=Endpoint(address=address(host, _port(parts))))
    cluster = Cluster(
        name=name,
        type=Cluster.STRICT_DNS,
        connect_timeout=_CONNECT,
        load_assignment=ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
    )
    if parts.scheme == "https":
        settings = ClientTLSSettings(mode=ClientTLSMode.SIMPLE, sni=host, subject_alt_names=(host,))
        cluster.transport_socket.CopyFrom(tls.originated(settings, ()))
    return cluster


def _provider(rule: JWTRule, clusters: Mapping[str, str]) -> JwtProvider:
    provider = JwtProvider(
        issuer=rule.issuer,
        audiences=rule.audiences,
        forward=rule.forward_original_token,
        forward_payload_header=rule.output_payload_to_header,
        payload_in_metadata=PAYLOAD,
        normalize_payload_in_metadata=JwtProvider.NormalizePayload(
            space_delimited_claims=dict.fromkeys((*_SPACED, *rule.space_delimited_claims))
        ),
        from_headers=[JwtHeader(name=own.name, value_prefix=own.prefix) for own in rule.from_headers],
        from_params=rule.from_params,
        from_cookies=rule.from_cookies,
        claim_to_headers=[
            JwtClaimToHeader(header_name=own.header, claim_name=own.claim) for own in rule.output_claim_to_headers
        ],
    )
    if rule.jwks_uri:
        timeout = duration(rule.timeout or _DEFAULT_TIMEOUT)
        uri = HttpUri(uri=rule.jwks_uri, cluster=clusters[rule.jwks_uri], timeout=timeout)
        provider.remote_jwks.CopyFrom(RemoteJwks(http_uri=uri, cache_duration=_CACHE))
    else:
        provider.local_jwks.CopyFrom(DataSource(inline_string=rule.jwks))
    return provider


def _requirement(providers: Sequence[str]) -> JwtRequirement:
    """Some issuer's token, or no bad one: of several issuers that look in one place, all but one must fail."""
    missing = JwtRequirement(allow_missing=Empty())
    named = [JwtRequirement(provider_name=name) for name in providers]
    if len(named) == 1:
        return _any_of([*named, missing])
    each = [_any_of([own, missing]) for own in named]
    return _any_of([*named, JwtRequirement(requires_all=JwtRequirementAndList(requirements=each))])


def _any_of(requirements: Sequence[JwtRequirement]) -> JwtRequirement:
    return JwtRequirement(requires_any=JwtRequirementOrList(requirements=requirements))
