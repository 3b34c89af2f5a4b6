"""Message heads, and lookups that cost only when somebody asks.

A head keeps the header lines as they came. Names that the proxy itself must understand are *marked* while parsing
(one dictionary look-up a line); every other header is found by search when a matcher or a log format asks for it.
Lines that are not edited are forwarded byte for byte, so the common message is one split and one join.
"""

from __future__ import annotations

from collections.abc import Collection

from mesh.proxy.http1.names import REQUEST_NAMES, is_marked


class Head:
    """The headers of one message: `lines` as they came (no line ends), `marked` values by lower-case name.

    Lines that never go on (hop-by-hop and the like) are not in `lines`, but their values are in `marked`. A marked
    header that came more than once holds the values joined by a comma, as Envoy joins them.
    """

    __slots__ = ("_text", "lines", "marked")

    def __init__(self, lines: list[bytes], marked: dict[bytes, bytes]) -> None:
        self.lines = lines
        self.marked = marked
        self._text: tuple[bytes, bytes] | None = None

    def get(self, name: bytes) -> bytes | None:
        """The value of the header (`name` in lower case), several joined by a comma; None if it is absent."""
        value = self.marked.get(name)
        if value is not None:
            return value
        text = self._text
        if text is None:
            whole = b"\r\n%b\r\n" % b"\r\n".join(self.lines)
            text = self._text = (whole, whole.lower())
        whole, lower = text
        needle = b"\r\n%b:" % name
        at = lower.find(needle)
        if at < 0:
            return None
        start = at + len(needle)
        end = whole.index(b"\r\n", start)
        value = whole[start:end].strip(b" \t")
        at = lower.find(needle, end)
        return value if at < 0 else self._join(value, needle, at)

    def _join(self, value: bytes, needle: bytes, at: int) -> bytes:
        whole, lower = self._text or (b"", b"")
        values = [value]
        while at >= 0:
            start = at + len(needle)
            end = whole.index(b"\r\n", start)
            values.append(whole[start:end].strip(b" \t"))
            at = lower.find(needle, end)
        return b",".join(values)

    def values(self, name: bytes) -> list[bytes]:
        """The values of the header (`name` in lower case), one for each time that it came."""
        return [value for each, value in self.items() if each == name]

    def remove(self, names: Collection[bytes]) -> None:
        """Drop every header whose lower-case name is in `names`."""
        self.lines = [line for line in self.lines if line.partition(b":")[0].lower() not in names]
        for name in names:
            self.marked.pop(name, None)
        self._text = None

    def take(self, name: bytes) -> bytes | None:
        """Remove a marked header and answer its value. Cheap for the usual spelling, as our own sidecars send it."""
        value = self.marked.pop(name, None)
        if value is None:
            return None
        self._text = None
        try:
            self.lines.remove(b"%b: %b" % (name, value))
        except ValueError:
            self.remove((name,))
        return value

    def add(self, name: bytes, value: bytes) -> None:
        """Add a header (`name` in lower case) after the others."""
        self.lines.append(b"%b: %b" % (name, value))
        if is_marked(name):
            before = self.marked.get(name)
            self.marked[name] = value if before is None else b"%b,%b" % (before, value)
        self._text = None

    def extend(self, lines: Collection[bytes]) -> None:
        """Append whole lines, whose names are not marked ones."""
        self.lines.extend(lines)
        self._text = None

    def set(self, name: bytes, value: bytes) -> None:
        """Put the header in the place of any of that name."""
        if self.get(name) is not None:
            self.remove((name,))
        self.add(name, value)

    def items(self) -> list[tuple[bytes, bytes]]:
        """All headers, lower-case name and value, in order."""
        pairs = (line.partition(b":") for line in self.lines)
        return [(name.lower(), value.strip(b" \t")) for name, _, value in pairs]


class RequestHead(Head):
    """`target` is the path and query as sent upstream; `authority` the host that the request is for."""

    __slots__ = ("authority", "method", "target")

    def __init__(
        self, method: bytes, target: bytes, authority: bytes, lines: list[bytes], marked: dict[bytes, bytes]
    ) -> None:
        self.lines = lines
        self.marked = marked
        self._text = None
        self.method = method
        self.target = target
        self.authority = authority

    def set(self, name: bytes, value: bytes) -> None:
        """As of any head; what is marked in requests need not be searched for."""
        if name in self.marked or (name not in REQUEST_NAMES.marks and self.get(name) is not None):
            self.remove((name,))
        self.add(name, value)


class ResponseHead(Head):
    __slots__ = ("http_10", "reason", "status")

    def __init__(
        self, status: int, reason: bytes, http_10: bool, lines: list[bytes], marked: dict[bytes, bytes]
    ) -> None:
        self.lines = lines
        self.marked = marked
        self._text = None
        self.status = status
        self.reason = reason
        self.http_10 = http_10
