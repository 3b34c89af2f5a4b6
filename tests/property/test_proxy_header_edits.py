"""A compiled header edit does what a naive reading of its levels does, one action after the other, on any head."""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3.base_pb2 import HeaderValueOption
from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy.compile.headers import header_edit
from mesh.proxy.fields import Place
from mesh.proxy.http1.head import RequestHead
from mesh.proxy.http1.names import MARKED

# Two that the proxy marks, two that it searches for, one of which begins as another does.
NAMES = ["origin", "x-b3-traceid", "x-a", "x-a-b"]
APPEND, ADD_IF_ABSENT, OVERWRITE_OR_ADD, OVERWRITE_IF_EXISTS = range(4)
VALUES = ["one", "%REQ(X-A)%", "%REQ(ORIGIN)%"]
ADDITIONS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES), st.integers(0, 3)), max_size=4)
LEVELS = st.lists(st.tuples(ADDITIONS, st.sets(st.sampled_from(NAMES), max_size=2)), max_size=3)
HEADS = st.lists(st.tuples(st.sampled_from([*NAMES, "x-other"]), st.sampled_from(["1", "2"])), max_size=4)


def request_head(pairs: list[tuple[str, str]]) -> RequestHead:
    """As the parser leaves it: lines in the client's spelling, marked values joined."""
    marked: dict[bytes, bytes] = {}
    for name, value in pairs:
        key = name.encode()
        if key in MARKED:
            marked[key] = b"%b,%b" % (marked[key], value.encode()) if key in marked else value.encode()
    lines = [f"{name.title()}: {value}".encode() for name, value in pairs]
    return RequestHead(b"GET", b"/", b"a", lines, marked)


class Subject:
    """What formats look at."""

    def __init__(self, head: RequestHead) -> None:
        self.head = head
        self.connection = None


def naive(pairs: list[tuple[str, str]], levels: Any) -> list[tuple[str, str]]:
    """Each level in turn: what it removes, then what it adds."""
    for additions, removals in levels:
        pairs = [(name, value) for name, value in pairs if name not in removals]
        for name, text, action in additions:
            asked = {"%REQ(X-A)%": "x-a", "%REQ(ORIGIN)%": "origin"}.get(text)
            value = text if asked is None else seen(pairs, asked)
            is_there = any(each == name for each, _ in pairs)
            if not value or (action == ADD_IF_ABSENT and is_there) or (action == OVERWRITE_IF_EXISTS and not is_there):
                continue
            if action in (OVERWRITE_OR_ADD, OVERWRITE_IF_EXISTS):
                pairs = [(each, old) for each, old in pairs if each != name]
            pairs = [*pairs, (name, value)]
    return pairs


def seen(pairs: list[tuple[str, str]], name: str) -> str:
    """The value that a format shows: of a header that is joined all, else the first."""
    values = [value for each, value in pairs if each == name]
    return ",".join(values) if name.encode() in MARKED else "".join(values[:1])


@given(HEADS, LEVELS)
def test_an_edit_is_its_actions_in_order(pairs: list[tuple[str, str]], levels: Any) -> None:
    messages = []
    for additions, removals in levels:
        options = []
        for name, text, action in additions:
            option = HeaderValueOption(append_action=action)
            option.header.key, option.header.value = name, text
            options.append(option)
        messages.append((options, sorted(removals), Place("Route", "r")))
    edit = header_edit(messages)
    head = request_head(pairs)
    if edit is not None:
        stream: Any = Subject(head)
        edit.apply(head, stream)
    expected = naive(pairs, levels)
    assert [(name.decode(), value.decode()) for name, value in head.items()] == expected
    for name in NAMES:
        assert head.get(name.encode()) == (b",".join(v.encode() for n, v in expected if n == name) or None)
