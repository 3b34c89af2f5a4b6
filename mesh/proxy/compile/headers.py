"""Header additions and removals to `HeaderEdit`: constants become whole lines, the rest steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mesh.proxy.compile.substitution import compile_text
from mesh.proxy.fields import Place
from mesh.proxy.http1.head import Head
from mesh.proxy.http1.names import is_marked
from mesh.proxy.route import HeaderEdit

if TYPE_CHECKING:
    from mesh.proxy.stream import Stream

SUPPORTED = {
    "envoy.config.core.v3.HeaderValueOption": frozenset(("header", "append", "append_action", "keep_empty_value")),
    "envoy.config.core.v3.HeaderValue": frozenset(("key", "value", "raw_value")),
}
_APPEND, _ADD_IF_ABSENT, _OVERWRITE_OR_ADD, _OVERWRITE_IF_PRESENT = range(4)
_FORBIDDEN = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection"))

Step = Callable[[Head, "Stream"], None]
Value = Callable[["Stream"], bytes]


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
                steps.append(lambda head, stream, line=line: head.extend((line,)))  # type: ignore[misc]
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
    if "%" in text:
        render = compile_text(text, place.at("header.value"), omit_empty=True)
        step = _step(name, action, lambda stream: render(stream).encode("utf-8", "surrogateescape"))
        if option.keep_empty_value:
            return None, step
        return None, lambda head, stream: step(head, stream) if render(stream) else None
    constant = text.replace("%%", "%").encode("utf-8", "surrogateescape")
    if not constant and not option.keep_empty_value:
        return None, None
    if action == _APPEND and not is_marked(name):
        return b"%b: %b" % (name, constant), None
    return None, _step(name, action, lambda stream: constant)


def _step(name: bytes, action: int, value: Value) -> Step:
    if action == _APPEND:
        return lambda head, stream: head.add(name, value(stream))
    if action == _OVERWRITE_OR_ADD:
        return lambda head, stream: head.set(name, value(stream))

    def conditional(head: Head, stream: Stream) -> None:
        present = head.get(name) is not None
        if present == (action == _OVERWRITE_IF_PRESENT):
            head.set(name, value(stream))

    return conditional
