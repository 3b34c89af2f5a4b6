"""AuthorizationPolicy: Istio's ValidateAuthorizationPolicy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Final

from mesh.api.authorization_policy import DRY_RUN, Action, AuthorizationPolicy, Condition, Operation, Rule, Source
from mesh.api.fields import camel_case
from mesh.config.rules.checks import (
    Place,
    check_cidr,
    check_header_name,
    check_port,
    check_selector,
    is_dns_label,
    is_dns_name,
)

_FLAGS: Final = frozenset(("1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"))
_PLAIN_KEYS: Final = frozenset(
    (
        "source.ip", "remote.ip", "source.namespace", "source.principal", "source.serviceAccount",
        "request.auth.principal", "request.auth.audiences", "request.auth.presenter",
        "destination.ip", "destination.port", "connection.sni",
    )
)  # fmt: skip
_HEADER: Final = re.compile(r"request\.headers\[(.+)\]")
_CLAIM: Final = re.compile(r"request\.auth\.claims(\[[^\[\]]+\])+")
_TEMPLATE: Final = ("{*}", "{**}")
_MOST_ACCOUNTS: Final = 16


def check_authorization_policy(resource: AuthorizationPolicy, at: Place) -> None:
    """`at` is the place of `spec`."""
    spec = resource.spec
    check_selector(spec.selector, at / "selector")
    flag = resource.metadata.annotations.get(DRY_RUN)
    if flag is not None and flag not in _FLAGS:
        Place(at.problems, ("metadata", "annotations", DRY_RUN)).refuse(f'must be "true" or "false", not "{flag}"')
    if spec.action is Action.DENY and not spec.rules:
        at.refuse("DENY without rules denies nothing; add a rule, or `rules: [{}]` to deny everything")
    for index, rule in enumerate(spec.rules):
        _check_rule(rule, at / "rules" / index)


def _check_rule(rule: Rule, at: Place) -> None:
    for index, origin in enumerate(rule.from_):
        place = at / "from" / index / "source"
        if origin.source is None or not _check_filled(origin.source, place):
            place.refuse("must say something of the source; leave `from` out to mean every source")
        else:
            _check_source(origin.source, place)
    for index, target in enumerate(rule.to):
        place = at / "to" / index / "operation"
        if target.operation is None or not _check_filled(target.operation, place):
            place.refuse("must say something of the operation; leave `to` out to mean every operation")
        else:
            _check_operation(target.operation, place)
    for index, condition in enumerate(rule.when):
        _check_condition(condition, at / "when" / index)


def _check_filled(message: Source | Operation, at: Place) -> bool:
    """Whether any list has entries; empty entries are refused."""
    found = {field.name: getattr(message, field.name) for field in fields(message)}
    for name, values in found.items():
        _check_each(values, at / camel_case(name), _check_not_empty)
    return any(found.values())


def _check_each(values: Iterable[str], at: Place, check: Callable[[str, Place], None]) -> None:
    for index, value in enumerate(values):
        check(value, at / index)


def _check_not_empty(value: str, at: Place) -> None:
    if not value:
        at.refuse("must not be empty")


def _check_source(source: Source, at: Place) -> None:
    for name in ("ip_blocks", "not_ip_blocks", "remote_ip_blocks", "not_remote_ip_blocks"):
        _check_each(getattr(source, name), at / camel_case(name), check_cidr)
    for name in ("service_accounts", "not_service_accounts"):
        accounts, place = getattr(source, name), at / camel_case(name)
        if accounts and (source.principals or source.not_principals or source.namespaces or source.not_namespaces):
            place.refuse("cannot be set beside principals or namespaces")
        if len(accounts) > _MOST_ACCOUNTS:
            place.refuse(f"must hold at most {_MOST_ACCOUNTS} entries")
        _check_each(accounts, place, _check_account)


def _check_account(value: str, at: Place) -> None:
    namespace, slash, name = value.rpartition("/")
    if not is_dns_name(name) or (slash and not is_dns_label(namespace)):
        at.refuse(f'"{value}" is not <service account> or <namespace>/<service account>')


def _check_operation(operation: Operation, at: Place) -> None:
    for name in ("ports", "not_ports"):
        _check_each(getattr(operation, name), at / camel_case(name), _check_port)
    for name in ("paths", "not_paths"):
        _check_each(getattr(operation, name), at / camel_case(name), _check_path)


def _check_port(value: str, at: Place) -> None:
    if value.isascii() and value.isdigit():
        check_port(int(value), at)
    else:
        at.refuse(f'"{value}" is not a port number')


def _check_path(value: str, at: Place) -> None:
    """A template has `{*}` and `{**}` as whole segments, of which `{**}` is the last, and no other wildcard."""
    if "{" not in value and "}" not in value:
        return
    segments = value.split("/")
    bare = [segment for segment in segments if segment not in _TEMPLATE]
    if any(letter in segment for segment in bare for letter in "{}*"):
        at.refuse(f'"{value}": in a path template {{*}} and {{**}} are whole segments, and there is no other wildcard')
    elif "{**}" in segments and any(own in _TEMPLATE for own in segments[segments.index("{**}") + 1 :]):
        at.refuse(f'"{value}": {{**}} must be the last wildcard of a path template')


def _check_condition(condition: Condition, at: Place) -> None:
    if not condition.values and not condition.not_values:
        at.refuse("must have values or notValues")
    _check_key(condition.key, at / "key")
    checks: dict[str, Callable[[str, Place], None]] = {
        "source.ip": check_cidr,
        "remote.ip": check_cidr,
        "destination.ip": check_cidr,
        "destination.port": _check_port,
        "source.serviceAccount": _check_account,
    }
    check = checks.get(condition.key, _check_not_empty)
    _check_each(condition.values, at / "values", check)
    _check_each(condition.not_values, at / "notValues", check)


def _check_key(key: str, at: Place) -> None:
    if header := _HEADER.fullmatch(key):
        check_header_name(header[1], at)
    elif key not in _PLAIN_KEYS and not _CLAIM.fullmatch(key):
        known = ", ".join((*sorted(_PLAIN_KEYS), "request.headers[<name>]", "request.auth.claims[<name>]"))
        at.refuse(f'"{key}" is not one of {known}')
