"""Where tokens stand in a request: headers, query parameters and cookies, in Envoy's order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from mesh.proxy.http1.head import RequestHead


@dataclass(slots=True)
class Location:
    """One place; `kind` is header, parameter or cookie. `issuers` are those whose tokens may stand here; an empty
    one allows all.
    """

    kind: str
    name: bytes
    prefix: bytes = b""
    issuers: set[str] = field(default_factory=set)

    def allows(self, issuer: str) -> bool:
        return "" in self.issuers or issuer in self.issuers

    def find(self, head: RequestHead) -> bytes | None:
        """The token, None if there is none."""
        if self.kind == "header":
            return self._of_header(head.get(self.name))
        if self.kind == "parameter":
            return next((value for name, value, _ in _parameters(head.target) if name == self.name), None)
        return next((value for name, value in _cookies(head) if name == self.name), None)

    def _of_header(self, value: bytes | None) -> bytes | None:
        if value is None or not self.prefix:
            return value
        _, found, token = value.partition(self.prefix)
        return token.lstrip() if found else None

    def strike(self, head: RequestHead) -> None:
        """Take the token out of the request. Cookies stay."""
        if self.kind == "header":
            head.remove((self.name,))
        elif self.kind == "parameter":
            path = head.target.partition(b"?")[0]
            kept = b"&".join(text for name, _, text in _parameters(head.target) if name != self.name)
            head.target = b"%b?%b" % (path, kept) if kept else path


def _parameters(target: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(name, decoded value, text) of each query parameter."""
    query = target.partition(b"?")[2].partition(b"#")[0]
    for text in query.split(b"&") if query else ():
        name, _, value = text.partition(b"=")
        yield _decoded(name), _decoded(value), text


def _decoded(text: bytes) -> bytes:
    return unquote(text.decode("latin-1"), "latin-1").encode("latin-1") if b"%" in text else text


def _cookies(head: RequestHead) -> Iterator[tuple[bytes, bytes]]:
    for header in head.values(b"cookie"):
        for pair in header.split(b";"):
            name, equals, value = pair.strip().partition(b"=")
            if equals:
                yield name, value.strip(b'"')


def merged(locations: Iterable[Location]) -> tuple[Location, ...]:
    """The locations of several providers, headers first, then parameters, then cookies, each once with all issuers."""
    found: dict[tuple[str, bytes, bytes], Location] = {}
    for each in locations:
        key = (each.kind, each.name, each.prefix)
        found.setdefault(key, Location(*key)).issuers.update(each.issuers)
    return tuple(sorted(found.values(), key=lambda each: ("header", "parameter", "cookie").index(each.kind)))
