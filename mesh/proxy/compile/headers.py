"""Header additions and removals to `HeaderEdit`: constants become whole lines, the rest steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mesh.proxy.compile.substitution import compile_text
from mesh.proxy.fields import Place
from mesh.proxy.http.route import HeaderEdit
from mesh.proxy.http1.head import Head
from mesh.proxy.http1.names import MARKED
from mesh.proxy.http1.parse import CONTROLS

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream

SUPPORTED = {
    "envoy.config.core.v3.HeaderValueOption": frozenset(("header", "append", "append_action", "keep_empty_value")),
    "envoy.config.core.v3.HeaderValue": frozenset(("key", "value", "raw_value")),
}
_APPEND, _OVERWRITE_OR_ADD, _OVERWRITE = 0, 2, 3  # append_action
_FORBIDDEN = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection"))

Step = Callable[[Head, "Stream"], None]
Put = Callable[[Head, bytes, bytes], None]
Level = tuple[Any, Any, Place]  # headers to add, names to remove, and where that is said


@dataclass(frozen=True, slots=True)
class Levels:
    """What a route, its virtual host and their configuration say of requests and responses, in the order in which it is
    done. A weighted cluster's word comes before.
    """

    request: tuple[Level, ...] = ()
    response: tuple[Level, ...] = ()


def header_edit(levels: Iterable[Level]) -> HeaderEdit | None:
    """One edit of several levels, in order. None if all are empty.

    Removals of a later level also strike what an earlier one added, and a value may be made of what they strike. So
    only constants that they do not strike let removals come first; everything else stays in order.
    """
    removals: frozenset[bytes] = frozenset()
    lines: list[bytes] = []
    steps: list[Step] = []
    additions: list[_Addition] = []
    is_simple = True  # no removal after an addition
    for options, names, place in levels:
        struck = _names(names, place)
        if struck and all(each.line is not None and each.name not in struck for each in additions):
            removals |= struck
        elif struck:
            is_simple = False
            steps.append(lambda head, stream, struck=struck: head.remove(struck))  # type: ignore[misc]
        for index, option in enumerate(options):
            addition = _addition(option, place.at(f"headers_to_add[{index}]"))
            if addition is None:
                continue
            additions.append(addition)
            if not steps and addition.line is not None and addition.is_unconditional:
                lines.append(addition.line)
            else:
                steps.append(addition.step())
    if not removals and not additions:
        return None
    needles, fresh = _fresh(removals, additions) if is_simple else ((), ())
    return HeaderEdit(removals, tuple(lines), tuple(steps), needles, fresh)


def _fresh(removals: frozenset[bytes], additions: Sequence[_Addition]) -> tuple[tuple[bytes, ...], tuple[Step, ...]]:
    """`HeaderEdit.needles` and `.fresh`; empty where marks or several edits of one header want the whole way."""
    asked = [*removals, *(each.name for each in additions if not each.is_unconditional)]
    names = [*removals, *(each.name for each in additions)]
    if not asked or len(set(names)) < len(names) or not MARKED.isdisjoint(names):
        return (), ()
    steps: list[Step] = []
    for is_constant, run in groupby((each for each in additions if each.adds), lambda each: each.line is not None):
        if is_constant:
            steps.append(_append(tuple(each.line for each in run if each.line is not None)))
        else:
            steps += [each.appending() for each in run]
    return tuple(b"\n%b:" % name for name in asked), tuple(steps)


def _append(lines: tuple[bytes, ...]) -> Step:
    return lambda head, stream: head.lines.extend(lines)


def _names(names: Iterable[str], place: Place) -> frozenset[bytes]:
    lowered = frozenset(name.lower().encode() for name in names)
    for name in lowered:
        if name.startswith(b":") or name == b"host":
            raise place.refuse(f"{name.decode()} cannot be removed", "headers_to_remove")
    return lowered


@dataclass(frozen=True, slots=True)
class _Addition:
    """One HeaderValueOption: a constant `line`, or what `render` makes."""

    name: bytes
    action: int
    value: bytes
    line: bytes | None
    render: Callable[[Stream], str]
    keeps_empty: bool

    @property
    def is_unconditional(self) -> bool:
        """Whether it is added whatever is there, and nothing need be known of it."""
        return self.action == _APPEND and self.name not in MARKED

    @property
    def adds(self) -> bool:
        """Whether it is added where the header is not there."""
        return self.action != _OVERWRITE

    def step(self) -> Step:
        """The edit for any message."""
        name, put, value, line = self.name, _PUTS[self.action], self.value, self.line
        if line is None:
            return self._formatted(put)
        if self.is_unconditional:
            return _append((line,))
        return lambda head, stream: put(head, name, value)

    def appending(self) -> Step:
        """The edit of a formatted value for a message that has no such header."""
        return self._formatted(lambda head, name, value: head.lines.append(b"%b: %b" % (name, value)))

    def _formatted(self, put: Put) -> Step:
        name, render, keeps_empty = self.name, self.render, self.keeps_empty

        def step(head: Head, stream: Stream) -> None:
            value = render(stream)
            if value.isascii() and value.isprintable() and value:
                put(head, name, value.encode())
            elif value or keeps_empty:
                # Metadata holds what clients said, line ends included: they must not end the header.
                put(head, name, value.encode("utf-8", "surrogateescape").translate(None, CONTROLS))

        return step


def _addition(option: Any, place: Place) -> _Addition | None:
    name = option.header.key.lower().encode()
    if name.startswith(b":") or name in _FORBIDDEN:
        raise place.refuse(f"{option.header.key} cannot be set by this sidecar", "header.key")
    action = option.append_action
    if option.HasField("append"):
        action = _APPEND if option.append.value else _OVERWRITE_OR_ADD
    text = option.header.value or option.header.raw_value.decode("utf-8", "surrogateescape")
    if "%" in text:
        render = compile_text(text, place.at("header.value"), omit_empty=True)
        return _Addition(name, action, b"", None, render, option.keep_empty_value)
    value = text.encode("utf-8", "surrogateescape")
    if not value and not option.keep_empty_value:
        return None
    return _Addition(name, action, value, b"%b: %b" % (name, value), lambda stream: text, True)


def _add_if_absent(head: Head, name: bytes, value: bytes) -> None:
    if not head.has(name):
        head.add(name, value)


def _overwrite_if_exists(head: Head, name: bytes, value: bytes) -> None:
    if head.has(name):
        head.set(name, value)


_PUTS: tuple[Put, ...] = (Head.add, _add_if_absent, Head.set, _overwrite_if_exists)  # by append_action
