"""Which routes of a long table may match a path, without trying them one after the other.

A path can only match routes whose exact path it is, or whose prefix it begins with. Both are dictionaries: one look-up
for the whole path, and one for each length that some prefix has. Routes without such a key (regular expressions that
begin with a choice) have the empty prefix. What is found is still tried in declared order, so the first match wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.proxy.http.route import Route

WORTH_INDEXING = 8  # up to so many routes, trying each costs as much as two look-ups

_Entries = tuple[tuple[int, "Route"], ...]


@dataclass(frozen=True, slots=True)
class PathKey:
    """What a path must be, or begin with, for its route to match; `is_folded` keys are in lower case, like the path."""

    text: bytes
    is_exact: bool
    is_folded: bool = False


class RouteIndex:
    """The routes of one virtual host by their paths."""

    __slots__ = ("_folded", "_plain")

    def __init__(self, keyed: Sequence[tuple[Iterable[PathKey], Route]]) -> None:
        numbered = [(key, (order, route)) for order, (keys, route) in enumerate(keyed) for key in keys]
        self._plain = _Keys([entry for entry in numbered if not entry[0].is_folded])
        folded = [entry for entry in numbered if entry[0].is_folded]
        self._folded = _Keys(folded) if folded else None

    def candidates(self, path: bytes) -> Iterable[Route]:
        """The routes that may match, in declared order."""
        found = self._plain.find(path)
        if self._folded is not None:
            found += self._folded.find(path.lower())
        if len(found) == 1:
            return [route for _, route in found[0]]
        # No two entries are equal in their order, so the routes themselves are never compared.
        return [route for _, route in sorted(entry for entries in found for entry in entries)]


class _Keys:
    """Exact paths, prefixes, and which lengths the prefixes have, shortest first."""

    __slots__ = ("_exact", "_lengths", "_prefixes")

    def __init__(self, keyed: Iterable[tuple[PathKey, tuple[int, Route]]]) -> None:
        exact: dict[bytes, list[tuple[int, Route]]] = {}
        prefixes: dict[bytes, list[tuple[int, Route]]] = {}
        for key, entry in keyed:
            (exact if key.is_exact else prefixes).setdefault(key.text, []).append(entry)
        self._exact: dict[bytes, _Entries] = {text: tuple(entries) for text, entries in exact.items()}
        self._prefixes: dict[bytes, _Entries] = {text: tuple(entries) for text, entries in prefixes.items()}
        self._lengths = sorted({len(text) for text in prefixes})

    def find(self, path: bytes) -> list[_Entries]:
        found = []
        exact = self._exact.get(path)
        if exact is not None:
            found.append(exact)
        prefixes, size = self._prefixes, len(path)
        for length in self._lengths:
            if length > size:
                break
            entries = prefixes.get(path[:length])
            if entries is not None:
                found.append(entries)
        return found
