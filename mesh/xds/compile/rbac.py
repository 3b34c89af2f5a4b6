"""Rules of an AuthorizationPolicy as a policy of Envoy's access control.

What a connection cannot know makes an ALLOW rule match nothing on TCP ports, and is left out of DENY and AUDIT rules
there: in doubt less is allowed. So does Istio.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.rbac.v3.rbac_pb2 import RBAC, Permission, Policy, Principal
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.path.match.uri_template.v3.uri_template_match_pb2 import UriTemplateMatchConfig
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.path_pb2 import PathMatcher
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.matcher.v3.value_pb2 import ListMatcher, OrMatcher, ValueMatcher
from google.protobuf.wrappers_pb2 import UInt32Value

from mesh.api.authorization_policy import AuthorizationPolicy, Condition, Operation, Rule, Source
from mesh.xds.compile.messages import packed

JWT_FILTER: Final = "envoy.filters.http.jwt_authn"
PAYLOAD: Final = "payload"
"""Where the claims of a token are found: under this key of the filter's dynamic metadata."""

_SPIFFE: Final = "spiffe://"
_ANY: Final = StringMatcher(safe_regex=RegexMatcher(regex=".+"))
_BRACKETS: Final = re.compile(r"\[([^\[\]]+)\]")


class _HttpOnlyError(Exception):
    """A rule asks a connection what only a request can answer."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked: requests or connections, under a policy of `namespace`.

    `ports` are the numbers that stand for one port besides its own, such as those of the node.
    """

    is_http: bool
    namespace: str
    ports: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Clause:
    """One field of a rule, or one of its conditions."""

    key: str
    values: tuple[str, ...]
    not_values: tuple[str, ...]


def rules(
    policies: Iterable[AuthorizationPolicy], action: RBAC.Action, is_http: bool, ports: Mapping[int, tuple[int, ...]]
) -> RBAC:
    """The policies of one action. Those without a rule are there to match nobody."""
    found = RBAC(action=action)
    for own in policies:
        subject = Subject(is_http, own.namespace, ports)
        for index, rule in enumerate(own.spec.rules):
            policy = _policy(rule, subject, widens=action != RBAC.ALLOW)
            if policy is not None:
                found.policies[f"ns[{own.namespace}]-policy[{own.name}]-rule[{index}]"].CopyFrom(policy)
    return found


def _policy(rule: Rule, subject: Subject, *, widens: bool) -> Policy | None:
    """None if no connection can match it."""
    of_target = [own for own in map(_condition, rule.when) if _family(own.key) in _PERMISSIONS]
    of_caller = [own for own in map(_condition, rule.when) if _family(own.key) in _PRINCIPALS]
    targets = [[*_fields(own.operation), *of_target] for own in rule.to if own.operation is not None]
    callers = [[*_fields(own.source), *of_caller] for own in rule.from_ if own.source is not None]
    try:
        return Policy(
            permissions=[_permission(own, subject, widens) for own in targets or [of_target]],
            principals=[_principal(own, subject, widens) for own in callers or [of_caller]],
        )
    except _HttpOnlyError:
        return None


def _condition(condition: Condition) -> _Clause:
    return _Clause(condition.key, condition.values, condition.not_values)


def _fields(message: Source | Operation) -> Iterator[_Clause]:
    names = _SOURCE if isinstance(message, Source) else _OPERATION
    for name in names:
        values, not_values = getattr(message, name), getattr(message, f"not_{name}")
        if values or not_values:
            yield _Clause(name, values, not_values)


def _permission(clauses: Sequence[_Clause], subject: Subject, widens: bool) -> Permission:
    parts = [
        Permission(not_rule=some) if is_negated else some
        for own, values, is_negated in _asked(clauses, subject, widens)
        for some in [_any_permission([_PERMISSIONS[_family(own.key)](own, value, subject) for value in values])]
    ]
    return Permission(and_rules=Permission.Set(rules=parts or [Permission(any=True)]))


def _principal(clauses: Sequence[_Clause], subject: Subject, widens: bool) -> Principal:
    parts = [
        Principal(not_id=some) if is_negated else some
        for own, values, is_negated in _asked(clauses, subject, widens)
        for some in [_any_principal([_PRINCIPALS[_family(own.key)](own, value, subject) for value in values])]
    ]
    return Principal(and_ids=Principal.Set(ids=parts or [Principal(any=True)]))


def _asked(
    clauses: Sequence[_Clause], subject: Subject, widens: bool
) -> Iterator[tuple[_Clause, tuple[str, ...], bool]]:
    """Each clause with the values of which one has to hold, then with those of which none may (True)."""
    for clause in clauses:
        if _family(clause.key) in _HTTP_ONLY and not subject.is_http:
            if not widens:
                raise _HttpOnlyError(clause.key)
            continue
        if clause.values:
            yield clause, clause.values, False
        if clause.not_values:
            yield clause, clause.not_values, True


def _family(key: str) -> str:
    """`request.headers[x]` -> `request.headers`."""
    return key.partition("[")[0]


def _any_permission(parts: list[Permission]) -> Permission:
    return Permission(or_rules=Permission.Set(rules=parts))


def _any_principal(parts: list[Principal]) -> Principal:
    return Principal(or_ids=Principal.Set(ids=parts))


# What is asked for


def _host(clause: _Clause, value: str, subject: Subject) -> Permission:
    return Permission(header=_header(":authority", value, ignores_case=True))


def _method(clause: _Clause, value: str, subject: Subject) -> Permission:
    return Permission(header=_header(":method", value))


def _path(clause: _Clause, value: str, subject: Subject) -> Permission:
    if "{" not in value:
        return Permission(url_path=PathMatcher(path=_text(value)))
    template = value.replace("{*}", "*").replace("{**}", "**")
    name = "envoy.path.match.uri_template.uri_template_matcher"
    config = packed(UriTemplateMatchConfig(path_template=template))
    return Permission(uri_template=TypedExtensionConfig(name=name, typed_config=config))


def _port(clause: _Clause, value: str, subject: Subject) -> Permission:
    number = int(value)
    own = [Permission(destination_port=each) for each in (number, *subject.ports.get(number, ()))]
    return own[0] if len(own) == 1 else _any_permission(own)


def _destination_ip(clause: _Clause, value: str, subject: Subject) -> Permission:
    return Permission(destination_ip=_range(value))


def _server_name(clause: _Clause, value: str, subject: Subject) -> Permission:
    return Permission(requested_server_name=_text(value))


# Who calls


def _peer(clause: _Clause, value: str, subject: Subject) -> Principal:
    return _authenticated(_text(value, _SPIFFE))


def _namespace(clause: _Clause, value: str, subject: Subject) -> Principal:
    parts = value.split("*")
    return _authenticated(_regex(f".*/ns/{'.*'.join(map(re.escape, parts))}/.*"))


def _account(clause: _Clause, value: str, subject: Subject) -> Principal:
    namespace, _, name = value.rpartition("/")
    where, who = re.escape(namespace or subject.namespace), re.escape(name)
    return _authenticated(_regex(f"spiffe://.+/ns/{where}/(.+/|)sa/{who}(/.+)?"))


def _direct_ip(clause: _Clause, value: str, subject: Subject) -> Principal:
    return Principal(direct_remote_ip=_range(value))


def _remote_ip(clause: _Clause, value: str, subject: Subject) -> Principal:
    return Principal(remote_ip=_range(value))


def _request_principal(clause: _Clause, value: str, subject: Subject) -> Principal:
    """`<issuer>/<subject>`; the issuer may hold slashes. A wildcard stands at either end of the whole."""
    issuer, slash, who = value.rpartition("/")
    if not slash:
        issuer, who = ("", value) if value.startswith("*") else (value, "")
    if value == "*":
        matchers = _ANY, _ANY
    elif value.startswith("*"):
        matchers = _text(issuer) if slash else _ANY, StringMatcher(exact=who) if slash else _text(who)
    elif value.endswith("*"):
        matchers = StringMatcher(exact=issuer) if slash else _text(issuer), _text(who) if slash else _ANY
    else:
        matchers = StringMatcher(exact=issuer), StringMatcher(exact=who)
    claims = zip(("iss", "sub"), matchers, strict=True)
    found = [Principal(metadata=_claim([name], ValueMatcher(string_match=own))) for name, own in claims]
    return Principal(and_ids=Principal.Set(ids=found))


def _audience(clause: _Clause, value: str, subject: Subject) -> Principal:
    return Principal(metadata=_claim(["aud"], _text_or_list(value)))


def _presenter(clause: _Clause, value: str, subject: Subject) -> Principal:
    return Principal(metadata=_claim(["azp"], _text_or_list(value)))


def _claim_value(clause: _Clause, value: str, subject: Subject) -> Principal:
    return Principal(metadata=_claim(_BRACKETS.findall(clause.key), _text_or_list(value)))


def _request_header(clause: _Clause, value: str, subject: Subject) -> Principal:
    (name,) = _BRACKETS.findall(clause.key)
    return Principal(header=_header(name, value))


# Small matchers


def _text(value: str, prefix: str = "") -> StringMatcher:
    """Istio's wildcards: `*`, `a*`, `*a`; all after `prefix`."""
    if value == "*":
        return _ANY
    if value.startswith("*"):
        return _regex(f"{prefix}.*{re.escape(value[1:])}") if prefix else StringMatcher(suffix=value[1:])
    if value.endswith("*"):
        return StringMatcher(prefix=prefix + value[:-1])
    return StringMatcher(exact=prefix + value)


def _regex(pattern: str) -> StringMatcher:
    return StringMatcher(safe_regex=RegexMatcher(regex=pattern))


def _header(name: str, value: str, *, ignores_case: bool = False) -> HeaderMatcher:
    if value == "*":
        return HeaderMatcher(name=name, present_match=True)
    matcher = _text(value)
    matcher.ignore_case = ignores_case
    return HeaderMatcher(name=name, string_match=matcher)


def _authenticated(matcher: StringMatcher) -> Principal:
    return Principal(authenticated=Principal.Authenticated(principal_name=matcher))


def _range(value: str) -> CidrRange:
    network = ipaddress.ip_network(value, strict=False)
    return CidrRange(address_prefix=str(network.network_address), prefix_len=UInt32Value(value=network.prefixlen))


def _text_or_list(value: str) -> ValueMatcher:
    one = ValueMatcher(string_match=_text(value))
    either = [one, ValueMatcher(list_match=ListMatcher(one_of=one))]
    return ValueMatcher(or_match=OrMatcher(value_matchers=either))


def _claim(path: Sequence[str], value: ValueMatcher) -> MetadataMatcher:
    segments = [MetadataMatcher.PathSegment(key=key) for key in (PAYLOAD, *path)]
    return MetadataMatcher(filter=JWT_FILTER, path=segments, value=value)


_OPERATION: Final = ("hosts", "methods", "paths", "ports")
_SOURCE: Final = ("principals", "request_principals", "namespaces", "service_accounts", "remote_ip_blocks", "ip_blocks")
_PERMISSIONS: Final[Mapping[str, Callable[[_Clause, str, Subject], Permission]]] = {
    "hosts": _host,
    "methods": _method,
    "paths": _path,
    "ports": _port,
    "destination.port": _port,
    "destination.ip": _destination_ip,
    "connection.sni": _server_name,
}
_PRINCIPALS: Final[Mapping[str, Callable[[_Clause, str, Subject], Principal]]] = {
    "principals": _peer,
    "source.principal": _peer,
    "namespaces": _namespace,
    "source.namespace": _namespace,
    "service_accounts": _account,
    "source.serviceAccount": _account,
    "ip_blocks": _direct_ip,
    "source.ip": _direct_ip,
    "remote_ip_blocks": _remote_ip,
    "remote.ip": _remote_ip,
    "request_principals": _request_principal,
    "request.auth.principal": _request_principal,
    "request.auth.audiences": _audience,
    "request.auth.presenter": _presenter,
    "request.auth.claims": _claim_value,
    "request.headers": _request_header,
}
_HTTP_ONLY: Final = frozenset(
    (
        "hosts", "methods", "paths", "request_principals", "request.auth.principal", "request.auth.audiences",
        "request.auth.presenter", "request.auth.claims", "request.headers",
    )
)  # fmt: skip
