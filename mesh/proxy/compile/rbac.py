"""RBAC policies to predicates over a request's stream or a TCP connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from envoy.config.rbac.v3.rbac_pb2 import RBAC, MetadataSource
from envoy.extensions.path.match.uri_template.v3.uri_template_match_pb2 import UriTemplateMatchConfig

from mesh.proxy.compile import metadata
from mesh.proxy.compile.matchers import header_match
from mesh.proxy.compile.uri_template import uri_template
from mesh.proxy.compile.values import STRING_MATCHER, networks, string_match, unpack
from mesh.proxy.downstream.connection_info import text_of
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.http1.head import RequestHead
from mesh.proxy.policy.rbac import Policy, Predicate, Rules, Subject
from mesh.proxy.tls.connection import Peer

_R = "envoy.config.rbac.v3."
SUPPORTED = {
    _R + "RBAC": frozenset(("action", "policies")),
    _R + "Policy": frozenset(("permissions", "principals")),
    _R + "Permission": frozenset(
        ("and_rules", "or_rules", "any", "header", "url_path", "destination_ip", "destination_port",
         "destination_port_range", "metadata", "not_rule", "requested_server_name", "sourced_metadata", "uri_template")
    ),
    _R + "Permission.Set": frozenset(("rules",)),
    _R + "Principal": frozenset(
        ("and_ids", "or_ids", "any", "authenticated", "source_ip", "direct_remote_ip", "remote_ip", "header",
         "url_path", "metadata", "not_id", "sourced_metadata")
    ),
    _R + "Principal.Set": frozenset(("ids",)),
    _R + "Principal.Authenticated": frozenset(("principal_name",)),
    _R + "SourcedMetadata": frozenset(("metadata_matcher", "metadata_source")),
    "envoy.config.core.v3.TypedExtensionConfig": frozenset(("name", "typed_config")),
    "envoy.config.core.v3.CidrRange": frozenset(("address_prefix", "prefix_len")),
    "envoy.config.route.v3.HeaderMatcher": frozenset(
        ("name", "exact_match", "safe_regex_match", "range_match", "present_match", "prefix_match", "suffix_match",
         "contains_match", "string_match", "invert_match", "treat_missing_header_as_empty")
    ),
    "envoy.type.matcher.v3.PathMatcher": frozenset(("path",)),
    "envoy.type.v3.Int32Range": frozenset(("start", "end")),
    "envoy.type.v3.Int64Range": frozenset(("start", "end")),
    "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig": OPAQUE,
    **metadata.SUPPORTED,
    **STRING_MATCHER,
}  # fmt: skip
# Where the parts of a set stand in the message that has them; a negation has but one and no such message.
_LOGIC = {"and_rules": "rules", "or_rules": "rules", "not_rule": "", "and_ids": "ids", "or_ids": "ids", "not_id": ""}
_MAX_KNOWN = 1024
_PATH_STARTS = frozenset((b"/", b"*"))
_NO_HEAD = RequestHead(b"", b"", b"", [], {})


@dataclass(frozen=True, slots=True)
class Facts:
    """How the facts that rules ask for are read from a subject."""

    head: Callable[[Subject], RequestHead]
    connection: Callable[[Subject], Any]
    remote: Callable[[Subject], str]  # with port
    has_metadata: bool


HTTP = Facts(lambda x: x.head, lambda x: x.connection, lambda x: x.remote_address, True)
TCP = Facts(lambda x: _NO_HEAD, lambda x: x, lambda x: text_of(x.info.remote), False)


def compile_rules(rules: RBAC, facts: Facts, place: Place) -> Rules:
    """Raises Refused."""
    check(rules, SUPPORTED, place)
    policies = []
    for name in sorted(rules.policies):
        inside, policy = place.at(f"policies[{name}]"), rules.policies[name]
        permissions = [_permission(p, facts, inside.at(f"permissions[{i}]")) for i, p in enumerate(policy.permissions)]
        principals = [_principal(p, facts, inside.at(f"principals[{i}]")) for i, p in enumerate(policy.principals)]
        if not permissions or not principals:
            raise inside.refuse("at least one permission and one principal are required")
        policies.append(Policy(name, _any_of(permissions), _any_of(principals)))
    return Rules(rules.action, tuple(policies))


def _permission(rule: Any, facts: Facts, place: Place) -> Predicate:
    kind = rule.WhichOneof("rule")
    inside = place.at(kind or "")
    if kind in _LOGIC:
        return _combined(getattr(rule, kind), kind, _permission, facts, inside)
    if kind == "destination_ip":
        return _local_ip(rule.destination_ip, facts, inside)
    if kind == "destination_port":
        return _local_port(rule.destination_port, rule.destination_port + 1, facts)
    if kind == "destination_port_range":
        return _local_port(rule.destination_port_range.start, rule.destination_port_range.end, facts)
    if kind == "requested_server_name":
        match = string_match(rule.requested_server_name, inside)
        connection = facts.connection
        return lambda x: match(_server_name(connection(x)).encode())
    if kind == "uri_template":
        config = unpack(rule.uri_template.typed_config, UriTemplateMatchConfig, inside)
        return _path(uri_template(config.path_template, inside), facts)
    return _common(rule, kind, facts, place)


def _principal(principal: Any, facts: Facts, place: Place) -> Predicate:
    kind = principal.WhichOneof("identifier")
    inside = place.at(kind or "")
    if kind in _LOGIC:
        return _combined(getattr(principal, kind), kind, _principal, facts, inside)
    if kind == "authenticated":
        return _authenticated(principal.authenticated, facts, inside)
    if kind in ("source_ip", "direct_remote_ip", "remote_ip"):
        return _remote_ip(kind, getattr(principal, kind), facts, inside)
    return _common(principal, kind, facts, place)


def _combined(
    said: Any, kind: str, read: Callable[[Any, Facts, Place], Predicate], facts: Facts, place: Place
) -> Predicate:
    """What permissions and principals have in common: all of some, any of them, not that one."""
    parts = _LOGIC[kind]
    if not parts:
        return _none_of(read(said, facts, place))
    judged = [read(each, facts, place.at(f"{parts}[{i}]")) for i, each in enumerate(getattr(said, parts))]
    return _all_of(judged) if kind.startswith("and_") else _any_of(judged)


def _common(rule: Any, kind: str | None, facts: Facts, place: Place) -> Predicate:
    """What permissions and principals both may say."""
    inside = place.at(kind or "")
    if kind == "any":
        return lambda x: True
    if kind == "header":
        if facts is TCP:
            raise inside.refuse("a connection has no headers")
        match, head = header_match(rule.header, inside), facts.head
        return lambda x: match(head(x))
    if kind == "url_path":
        return _path(string_match(rule.url_path.path, inside.at("path")), facts)
    if kind == "metadata":
        return _metadata(rule.metadata, facts, inside)
    if kind == "sourced_metadata":
        if rule.sourced_metadata.metadata_source != MetadataSource.DYNAMIC:
            raise inside.refuse("only DYNAMIC is supported by this sidecar", "metadata_source")
        return _metadata(rule.sourced_metadata.metadata_matcher, facts, inside.at("metadata_matcher"))
    raise place.refuse("a rule is required")


def _metadata(matcher: Any, facts: Facts, place: Place) -> Predicate:
    match = metadata.metadata_match(matcher, place)
    if facts.has_metadata:
        return match
    return lambda x: match(_NO_METADATA)


class _Nothing:
    metadata: dict[str, Any] = {}


_NO_METADATA: Any = _Nothing()


def _path(match: Callable[[bytes], bool], facts: Facts) -> Predicate:
    """Over the path without its query. A CONNECT request has none, and matches nothing."""
    head = facts.head
    return lambda x: (target := head(x).target)[:1] in _PATH_STARTS and match(target.partition(b"?")[0])


def _authenticated(wanted: Any, facts: Facts, place: Place) -> Predicate:
    """Over TLS, whoever has one of the names: a URI or DNS name of the certificate, or its subject."""
    connection = facts.connection
    if not wanted.HasField("principal_name"):
        return lambda x: connection(x).peer is not None
    match = string_match(wanted.principal_name, place.at("principal_name"))

    def is_named(subject: Subject) -> bool:
        peer: Peer | None = connection(subject).peer
        if peer is None:
            return False
        if any(match(uri.encode()) for uri in peer.uri_sans):
            return True
        return any(match(name.encode()) for name in peer.dns_sans) or match(peer.subject.encode())

    return is_named


def _server_name(connection: Any) -> str:
    return connection.info.server_name or (connection.peer.sni if connection.peer is not None else "")


# Addresses


def _local_ip(cidr: Any, facts: Facts, place: Place) -> Predicate:
    inside, connection = _within(cidr, place), facts.connection
    return lambda x: inside(connection(x).info.local[0])


def _local_port(start: int, end: int, facts: Facts) -> Predicate:
    connection = facts.connection
    return lambda x: start <= connection(x).info.local[1] < end


def _remote_ip(kind: str, cidr: Any, facts: Facts, place: Place) -> Predicate:
    inside, connection, remote = _within(cidr, place), facts.connection, facts.remote
    if kind == "remote_ip":
        return lambda x: inside(_without_port(remote(x)))
    if kind == "source_ip":
        return lambda x: inside(connection(x).info.remote[0])
    return lambda x: inside(connection(x).info.direct_remote[0])


def _within(cidr: Any, place: Place) -> Callable[[str], bool]:
    (network,) = networks([cidr], place)

    @lru_cache(_MAX_KNOWN)
    def is_within(ip: str) -> bool:
        try:
            return ip_address(ip) in network
        except ValueError:  # a name that a client put into x-forwarded-for
            return False

    return is_within


def _without_port(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


# Sets


def _all_of(parts: Iterable[Predicate]) -> Predicate:
    every = tuple(parts)
    if len(every) == 1:
        return every[0]

    def all_hold(subject: Subject) -> bool:
        for predicate in every:  # noqa: SIM110 - a generator costs more than the loop
            if not predicate(subject):
                return False
        return True

    return all_hold


def _any_of(parts: Iterable[Predicate]) -> Predicate:
    some = tuple(parts)
    if len(some) == 1:
        return some[0]

    def one_holds(subject: Subject) -> bool:
        for predicate in some:  # noqa: SIM110 - a generator costs more than the loop
            if predicate(subject):
                return True
        return False

    return one_holds


def _none_of(predicate: Predicate) -> Predicate:
    return lambda x: not predicate(x)
