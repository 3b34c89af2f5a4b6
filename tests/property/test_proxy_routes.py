"""The compiled route table decides as a naive reading of Envoy's documentation would, with few routes and with so many
that they are found by index.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from envoy.config.route.v3.route_pb2 import RouteConfiguration
from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy.compile.routes import compile_routes
from mesh.proxy.fields import Place
from mesh.proxy.http1.head import RequestHead

HOSTS = ["a", "b.a", "c.b.a", "a:80", "x.a.y", "A"]
DOMAINS = ["a", "*.a", "*.b.a", "a*", "x.*", "*", "b.a", "a:80"]
PATHS = ["/", "/a", "/a/b", "/ab", "/A", "/a/b/c", "/a/", "/a?b=c"]
REGEXES = ["/a.*", "/a(/b)?", "/ab?", "/a|/ab", "/a/b", ".*c", "/[aA]+", "^/a/.+"]
PATH_MATCHES = st.one_of(
    st.builds(lambda p: {"prefix": p}, st.sampled_from(PATHS[:7])),
    st.builds(lambda p: {"path": p}, st.sampled_from(PATHS[:7])),
    st.builds(lambda p: {"path_separated_prefix": p}, st.sampled_from(["/a", "/a/b", "/A"])),
    st.builds(lambda p: {"safe_regex": p}, st.sampled_from(REGEXES)),
)
HEADER_MATCHES = st.lists(
    st.builds(
        lambda exact, invert: {"name": "h", "string_match": {"exact": exact}, "invert_match": invert},
        st.sampled_from(["1", "2"]),
        st.booleans(),
    ),
    max_size=1,
)
ROUTES = st.lists(st.tuples(PATH_MATCHES, HEADER_MATCHES, st.booleans()), min_size=1, max_size=24)
TABLES = st.lists(st.tuples(st.sets(st.sampled_from(DOMAINS), min_size=1, max_size=3), ROUTES), min_size=1, max_size=3)


def message(table: Any) -> RouteConfiguration:
    seen: set[str] = set()
    config = RouteConfiguration(name="r")
    for number, (domains, routes) in enumerate(table):
        own = sorted(domains - seen)
        seen |= domains
        if not own:
            continue
        host = config.virtual_hosts.add(name=f"v{number}", domains=own)
        for index, (path, headers, folded) in enumerate(routes):
            route = host.routes.add(name=f"{number}.{index}")
            route.direct_response.status = 200
            ((kind, value),) = path.items()
            if kind == "safe_regex":
                route.match.safe_regex.regex = value
            else:
                setattr(route.match, kind, value)
                route.match.case_sensitive.value = not folded
            for header in headers:
                added = route.match.headers.add(name=header["name"], invert_match=header["invert_match"])
                added.string_match.exact = header["string_match"]["exact"]
    return config


def naive_host(config: RouteConfiguration, authority: str) -> Any:
    name = authority.lower()
    ranked = []
    for host in config.virtual_hosts:
        for domain in host.domains:
            if domain == name:
                ranked.append((3, 0, host))
            elif domain == "*":
                ranked.append((0, 0, host))
            elif domain.startswith("*") and name.endswith(domain[1:]) and len(name) >= len(domain):
                ranked.append((2, len(domain), host))
            elif domain.endswith("*") and name.startswith(domain[:-1]) and len(name) >= len(domain):
                ranked.append((1, len(domain), host))
    return max(ranked, key=lambda item: item[:2])[2] if ranked else None


def naive_match(route: Any, path: str, header: str | None) -> bool:
    match = route.match
    kind = match.WhichOneof("path_specifier")
    wanted, path = getattr(match, kind), path.partition("?")[0]
    if kind == "safe_regex":
        ok = re.fullmatch(wanted.regex, path) is not None
    else:
        ok = naive_text_match(kind, wanted, path, not match.case_sensitive.value)
    for matcher in match.headers:
        ok = ok and header is not None and (header == matcher.string_match.exact) != matcher.invert_match
    return ok


def naive_text_match(kind: str, wanted: str, path: str, folded: bool) -> bool:
    if folded:
        wanted, path = wanted.lower(), path.lower()
    return {
        "prefix": path.startswith(wanted),
        "path": path == wanted,
        "path_separated_prefix": path == wanted or path.startswith(wanted + "/"),
    }[kind]


@given(table=TABLES, host=st.sampled_from(HOSTS), path=st.sampled_from(PATHS), header=st.sampled_from([None, "1", "2"]))
def test_the_first_match_wins(table: Any, host: str, path: str, header: str | None) -> None:
    config = message(table)
    compiled = compile_routes(config, Place("RouteConfiguration", "r"))
    lines = [] if header is None else [b"h: " + header.encode()]
    stream: Any = SimpleNamespace(head=RequestHead(b"GET", path.encode(), host.encode(), lines, {}))
    found = compiled.match(stream)
    expected_host = naive_host(config, host)
    routes = expected_host.routes if expected_host is not None else []
    expected = next((route.name for route in routes if naive_match(route, path, header)), None)
    assert (found.name if found is not None else None) == expected
