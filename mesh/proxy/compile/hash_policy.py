"""HashPolicy messages to one function from stream to key."""

from __future__ import annotations

from typing import Any

from mesh.proxy.compile.matchers import query_value
from mesh.proxy.compile.values import replacer
from mesh.proxy.fields import Place
from mesh.proxy.http.hash_policy import Cookie, HashKey, combined, header_key, query_key, source_ip_key

_P = "envoy.config.route.v3.RouteAction.HashPolicy"
SUPPORTED = {
    _P: frozenset(("header", "cookie", "connection_properties", "query_parameter", "terminal")),
    _P + ".Header": frozenset(("header_name", "regex_rewrite")),
    _P + ".Cookie": frozenset(("name", "ttl", "path", "attributes")),
    _P + ".CookieAttribute": frozenset(("name", "value")),
    _P + ".ConnectionProperties": frozenset(("source_ip",)),
    _P + ".QueryParameter": frozenset(("name",)),
}


def hash_key(policies: Any, place: Place) -> HashKey | None:
    """None without policies. Raises Refused."""
    found = []
    for index, policy in enumerate(policies):
        key = _key(policy, place.at(f"hash_policy[{index}]"))
        if key is not None:
            found.append((key, policy.terminal))
    if len(found) == 1:
        return found[0][0]
    return combined(found) if found else None


def _key(policy: Any, place: Place) -> HashKey | None:
    kind = policy.WhichOneof("policy_specifier")
    if kind == "header":
        rewrite = None
        if policy.header.HasField("regex_rewrite"):
            rewrite = replacer(policy.header.regex_rewrite, place.at("header.regex_rewrite"))
        return header_key(policy.header.header_name.lower().encode(), rewrite)
    if kind == "cookie":
        return Cookie(policy.cookie.name.encode(), _set_cookie(policy.cookie)).key
    if kind == "query_parameter":
        name = policy.query_parameter.name.encode()
        return query_key(lambda target: query_value(target, name))
    if kind == "connection_properties":
        return source_ip_key if policy.connection_properties.source_ip else None
    raise place.refuse("one of header, cookie, connection_properties, query_parameter is required")


def _set_cookie(cookie: Any) -> bytes | None:
    if not cookie.HasField("ttl"):
        return None
    parts = [f"; Max-Age={cookie.ttl.seconds}"] if cookie.ttl.seconds else []
    if cookie.path:
        parts.append(f"; Path={cookie.path}")
    parts += [f"; {each.name}={each.value}" if each.value else f"; {each.name}" for each in cookie.attributes]
    return ("".join(parts) + "; HttpOnly").encode()
