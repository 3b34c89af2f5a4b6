"""Message heads, and lookups that cost only when somebody asks.

A head keeps the header lines as they came. Names that the proxy itself must understand are *marked* while parsing
(one dictionary look-up a line); every other header is found by search when a matcher or a log format asks for it.
Lines that are not edited are forwarded byte for byte, so the common message is one split and one join.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from mesh.proxy.http1.names import MARKED, REQUEST_NAMES

_COMMA = 0x2C  # a number is found in bytes at an eighth of the cost of a letter


class Head:
    """The headers of one message: `lines` as they came (no line ends), `marked` values by lower-case name.

    Lines that never go on (hop-by-hop and the like) are not in `lines`, but their values are in `marked`. A marked
    header that came more than once holds the values joined by a comma, as Envoy joins them. `:scheme` is marked where
    the request itself has said one.
    """

    __slots__ = ("_lower", "_size", "lines", "marked")

    # Names that are marked wherever they are: what is not marked under one of them is not there.
    certain: ClassVar[frozenset[bytes]] = frozenset()

    def __init__(self, lines: list[bytes], marked: dict[bytes, bytes]) -> None:
        self.lines = lines
        self.marked = marked
        # What is searched: the lines as one text in lower case, and how many lines that was. Lines that are appended
        # later are looked at one by one: an edited head would otherwise be joined anew for each edit.
        self._lower = b""
        self._size = 0

    def get(self, name: bytes) -> bytes | None:
        """The value of the header (`name` in lower case), several joined by a comma; None if it is absent."""
        value = self.marked.get(name)
        if value is not None or name in self.certain:
            return value
        lines, lower = self.lines, self._lower or self._join()
        needle = b"\n%b:" % name
        at = lower.find(needle)
        if at < 0 and len(lines) == self._size:
            return None
        start = len(needle) - 1
        values = []
        while at >= 0:
            values.append(lines[lower.count(b"\n", 0, at)][start:].strip(b" \t"))
            at = lower.find(needle, at + 1)
        prefix = needle[1:]
        added = lines[self._size :]
        values += [line[start:].strip(b" \t") for line in added if line[:start].lower() == prefix]
        return b",".join(values) if values else None

    def first(self, name: bytes) -> bytes | None:
        """The value that came first of a header that is not joined; None if it is absent."""
        value = self.get(name)
        return value if value is None or _COMMA not in value else next(iter(self.values(name)), value)

    def has(self, name: bytes) -> bool:
        """Whether the header is there."""
        if name in self.marked:
            return True
        if name in self.certain:
            return False
        if (self._lower or self._join()).find(b"\n%b:" % name) >= 0:
            return True
        if len(self.lines) > self._size:
            prefix = b"%b:" % name
            length = len(prefix)
            for line in self.lines[self._size :]:
                if line[:length].lower() == prefix:
                    return True
        return False

    def lacks(self, needles: Collection[bytes]) -> bool:
        """Whether none of some headers is there: names that have no mark, each between a line end and a colon."""
        lower = self._lower
        if not lower or len(self.lines) != self._size:
            lower = self._join()
        for needle in needles:  # noqa: SIM110 - `all` would make a generator for each request
            if lower.find(needle) >= 0:
                return False
        return True

    def _join(self) -> bytes:
        lines = self.lines
        self._size = len(lines)
        text = self._lower = b"\n%b" % b"\n".join(lines).lower()
        return text

    def values(self, name: bytes) -> list[bytes]:
        """The values of the header (`name` in lower case), one for each time that it came."""
        return [value for each, value in self.items() if each == name]

    def remove(self, names: Collection[bytes]) -> None:
        """Drop every header whose lower-case name is in `names`."""
        for name in names:
            if self.has(name):
                self._remove(name)

    def _remove(self, name: bytes) -> None:
        prefix = b"%b:" % name
        size = len(prefix)
        self.lines = [line for line in self.lines if line[:size].lower() != prefix]
        self.marked.pop(name, None)
        self._lower = b""

    def take(self, name: bytes) -> bytes | None:
        """Remove a marked header and answer its value. Cheap for the usual spelling, as our own sidecars send it."""
        value = self.marked.pop(name, None)
        if value is None:
            return None
        self._lower = b""
        try:
            self.lines.remove(b"%b: %b" % (name, value))
        except ValueError:
            self._remove(name)
        return value

    def add(self, name: bytes, value: bytes) -> None:
        """Add a header (`name` in lower case) after the others."""
        if name in MARKED:
            before = self.get(name)
            self.marked[name] = value if before is None else b"%b,%b" % (before, value)
        self.lines.append(b"%b: %b" % (name, value))

    def set(self, name: bytes, value: bytes) -> None:
        """Put the header in the place of any of that name."""
        if self.has(name):
            self._remove(name)
        self.lines.append(b"%b: %b" % (name, value))
        if name in MARKED:
            self.marked[name] = value

    def put_first(self, name: bytes, value: bytes) -> None:
        """As `set`, but before all others."""
        self._remove(name)
        self.lines.insert(0, b"%b: %b" % (name, value))
        if name in MARKED:
            self.marked[name] = value

    def items(self) -> list[tuple[bytes, bytes]]:
        """All headers, lower-case name and value, in order."""
        pairs = (line.partition(b":") for line in self.lines)
        return [(name.lower(), value.strip(b" \t")) for name, _, value in pairs]


class RequestHead(Head):
    """`target` is the path and query as sent upstream; `authority` the host that the request is for.

    Who appends a line whose name is `certain` marks it too.
    """

    __slots__ = ("authority", "method", "target")

    certain = REQUEST_NAMES.marks - {
        b"x-envoy-expected-rq-timeout-ms"
    }  # each request gets that line: unmarked, it is cheaper

    def __init__(
        self, method: bytes, target: bytes, authority: bytes, lines: list[bytes], marked: dict[bytes, bytes]
    ) -> None:
        self.lines = lines
        self.marked = marked
        self._lower = b""
        self.method = method
        self.target = target
        self.authority = authority

    @property
    def scheme(self) -> bytes:
        """What `:scheme` is: what the request itself says, else what x-forwarded-proto does (Envoy)."""
        return self.marked.get(b":scheme") or self.marked.get(b"x-forwarded-proto", b"http").lower()


class ResponseHead(Head):
    __slots__ = ("http_10", "reason", "status")

    certain = frozenset((b"x-envoy-decorator-operation", b"x-envoy-upstream-service-time"))

    def __init__(
        self, status: int, reason: bytes, http_10: bool, lines: list[bytes], marked: dict[bytes, bytes]
    ) -> None:
        self.lines = lines
        self.marked = marked
        self._lower = b""
        self.status = status
        self.reason = reason
        self.http_10 = http_10

    @classmethod
    def own(cls, status: int, lines: list[bytes], marked: dict[bytes, bytes]) -> ResponseHead:
        """The head of a reply of our own; what is `certain` is marked besides `marked`."""
        for line in lines:
            name, _, value = line.partition(b":")
            if name.lower() in cls.certain:
                marked[name.lower()] = value.strip()
        return cls(status, b"", False, lines, marked)
