"""Redirects, direct responses, and the path rewrites that redirects share with forwarding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh.proxy.compile.values import replacer, value_or
from mesh.proxy.fields import Place
from mesh.proxy.http.route import DirectResponse, Redirect, without_port
from mesh.proxy.http1.head import RequestHead

SUPPORTED = {
    "envoy.config.route.v3.RedirectAction": frozenset(
        ("https_redirect", "scheme_redirect", "host_redirect", "port_redirect", "path_redirect", "prefix_rewrite",
         "regex_rewrite", "response_code", "strip_query")
    ),
    "envoy.config.route.v3.DirectResponseAction": frozenset(("status", "body")),
    "envoy.config.core.v3.DataSource": frozenset(("inline_string", "inline_bytes")),
    "envoy.type.matcher.v3.RegexMatchAndSubstitute": frozenset(("pattern", "substitution")),
}  # fmt: skip
_REDIRECTS = {0: 301, 1: 302, 2: 303, 3: 307, 4: 308}
_LONGEST_BODY = 4096  # max_direct_response_body_size_bytes, unless the table says otherwise


def direct_response(action: Any, config: Any, place: Place) -> DirectResponse:
    """A DirectResponseAction of the RouteConfiguration `config`. Raises Refused."""
    if not 200 <= action.status < 600:
        raise place.refuse(f"{action.status} is not a status of 200 to 599", "status")
    body = action.body.inline_bytes or action.body.inline_string.encode()
    longest = value_or(config, "max_direct_response_body_size_bytes", _LONGEST_BODY)
    if len(body) > longest:
        raise place.refuse(f"response body size is {len(body)} bytes; maximum is {longest}", "body")
    return DirectResponse(action.status, body)


def redirect(action: Any, match: Any, place: Place) -> Redirect:
    """A RedirectAction. Raises Refused."""
    return Redirect(_REDIRECTS[action.response_code], _location(action, match, place))


def path_rewrite(action: Any, match: Any, place: Place) -> Callable[[bytes], bytes] | None:
    """The path rewrite of a route or redirect action, over the path without query. Raises Refused."""
    if action.prefix_rewrite:
        return _prefix_rewrite(action.prefix_rewrite.encode(), match, place)
    if action.HasField("regex_rewrite"):
        return replacer(action.regex_rewrite, place.at("regex_rewrite"))
    return None


def _prefix_rewrite(new: bytes, match: Any, place: Place) -> Callable[[bytes], bytes]:
    kind = match.WhichOneof("path_specifier")
    if kind in ("safe_regex", "connect_matcher"):
        raise place.refuse("prefix_rewrite needs a prefix or path match", "prefix_rewrite")
    matched = len(getattr(match, kind).encode())
    return lambda path: new + path[matched:]


def _location(action: Any, match: Any, place: Place) -> Callable[[RequestHead], bytes]:
    scheme = b"https" if action.https_redirect else action.scheme_redirect.encode()
    host, port = action.host_redirect.encode(), action.port_redirect
    fixed, strips = action.path_redirect.encode(), action.strip_query
    rewrite = path_rewrite(action, match, place)

    def location(head: RequestHead) -> bytes:
        path, question, query = head.target.partition(b"?")
        if strips:
            question = query = b""
        if fixed:
            # A query in the configured path replaces the request's own.
            path = fixed
            if b"?" in fixed:
                question = query = b""
        elif rewrite is not None:
            path = rewrite(path)
        use = scheme or head.scheme
        return b"%b://%b%b%b%b" % (use, _redirect_host(head.authority, host, port, use), path, question, query)

    return location


def _redirect_host(authority: bytes, host: bytes, port: int, scheme: bytes) -> bytes:
    if port:
        return b"%b:%d" % (host or without_port(authority), port)
    if host:
        return host
    # A port that was the default of the old scheme makes no sense under the new one.
    old_default = b":80" if scheme == b"https" else b":443"
    return without_port(authority) if authority.endswith(old_default) else authority
