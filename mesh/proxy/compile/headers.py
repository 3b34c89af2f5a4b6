"""Header additions and removals to `HeaderEdit`: constants become whole lines, the rest steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
_APPEND, _OVERWRITE_OR_ADD = 0, 2  # append_action
_FORBIDDEN = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection"))

Step = Callable[[Head, "Stream"], None]
Put = Callable[[Head, bytes, bytes], None]


def header_edit(levels: Iterable[tuple[Any, Any, Place]]) -> HeaderEdit | None:
    """One edit of several levels, the most specific first: (headers to add, names to remove, place). None if all empty.

    Removals of a later level also strike what an earlier one added, so only a first level's removals and constant
    appends are hoisted; everything else stays in order.
    """
    removals: frozenset[bytes] = frozenset()
    lines: list[bytes] = []
    steps: list[Step] = []
    for additions, names, place in levels:
        struck = _names(names, place)
        if struck and not lines and not steps:
            removals |= struck
        elif struck:
            steps.append(lambda head, stream, struck=struck: head.remove(struck))  # type: ignore[misc]
        for index, option in enumerate(additions):
            line, step = _addition(option, place.at(f"headers_to_add[{index}]"))
            if line is not None and not steps:
                lines.append(line)
            elif line is not None:
                steps.append(lambda head, stream, line=line: head.lines.append(line))  # type: ignore[misc]
            elif step is not None:
                steps.append(step)
    return HeaderEdit(removals, tuple(lines), tuple(steps)) if removals or lines or steps else None


def _names(names: Iterable[str], place: Place) -> frozenset[bytes]:
    lowered = frozenset(name.lower().encode() for name in names)
    for name in lowered:
        if name.startswith(b":") or name == b"host":
            raise place.refuse(f"{name.decode()} cannot be removed", "headers_to_remove")
    return lowered


def _addition(option: Any, place: Place) -> tuple[bytes | None, Step | None]:
    name = option.header.key.lower().encode()
    if name.startswith(b":") or name in _FORBIDDEN:
        raise place.refuse(f"{option.header.key} cannot be set by this sidecar", "header.key")
    action = option.append_action
    if option.HasField("append"):
        action = _APPEND if option.append.value else _OVERWRITE_OR_ADD
    text = option.header.value or option.header.raw_value.decode("utf-8", "surrogateescape")
    put = _PUTS[action]
    if "%" in text:
        return None, _formatted(name, put, compile_text(text, place.at("header.value"), omit_empty=True), option)
    constant = text.replace("%%", "%").encode("utf-8", "surrogateescape")
    if not constant and not option.keep_empty_value:
        return None, None
    if action == _APPEND and name not in MARKED:
        return b"%b: %b" % (name, constant), None
    return None, lambda head, stream: put(head, name, constant)


def _formatted(name: bytes, put: Put, render: Callable[[Stream], str], option: Any) -> Step:
    keeps_empty = option.keep_empty_value

    def step(head: Head, stream: Stream) -> None:
        value = render(stream)
        if value or keeps_empty:
            # Metadata holds what clients said, line ends included: they must not end the header.
            put(head, name, value.encode("utf-8", "surrogateescape").translate(None, CONTROLS))

    return step


def _add_if_absent(head: Head, name: bytes, value: bytes) -> None:
    if not head.has(name):
        head.add(name, value)


def _overwrite_if_exists(head: Head, name: bytes, value: bytes) -> None:
    if head.has(name):
        head.set(name, value)


_PUTS: tuple[Put, ...] = (Head.add, _add_if_absent, Head.set, _overwrite_if_exists)  # by append_action
