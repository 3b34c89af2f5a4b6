"""Envoy's format strings, compiled to functions of a stream or a TCP connection.

A line has two dozen operators and is written for every request, so a format becomes one generated expression instead of
a call an operator (measured: 10 us a line before, 3 after), and a JSON format a line of text with its values put in
(12 us before, 6 after). What goes into the expression is in `operators`. An absent value is "-", in JSON null; with
`omit_empty_values` nothing, and the member of a JSON object is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any, cast

from mesh.proxy.compile.operators import Asked, Kind, Operator, operator
from mesh.proxy.fields import Place
from mesh.proxy.observe import log_values
from mesh.proxy.observe.log_values import Subject, plain

Render = Callable[[Subject], str]

_NOT_IN_F_STRINGS = ("\\", "#", "{", "}", '"')
_OPERATOR = re.compile(r"%(?:%|([A-Z0-9_]+)(?:\(([^)]*)\))?(?::(\d+))?%)")
# What expressions name besides `x`, and what it stands for.
_OF_STREAM = {"h": "x.head", "m": "x.head.marked", "c": "x.connection"}
_OF_CONNECTION = {"c": "x"}


def compile_text(template: str, place: Place, *, tcp: bool = False, omit_empty: bool = False) -> Render:
    """A format string as one function. Raises Refused."""
    code = _Code(place, tcp, "" if omit_empty else "-")
    return code.in_two_speeds(lambda: code.text(template))


def compile_json(template: Mapping[str, Any], place: Place, *, tcp: bool = False, omit_empty: bool = False) -> Render:
    """A JSON format on one line: string leaves are format strings; one that is a single operator keeps its type."""
    if omit_empty:
        sparse = _Code(place, tcp, "", is_fast=False)
        make = sparse.function(sparse.tree(template))
        return lambda subject: _dumped(_without_empty(make(subject)))
    code = _Code(place, tcp, "-")
    return code.in_two_speeds(lambda: code.json_line(template))


class _Code:
    """Expressions of one format, and the objects that they mention."""

    def __init__(self, place: Place, tcp: bool, absent: str, *, is_fast: bool = True) -> None:
        self._place = place
        self._tcp = tcp
        self._absent = absent
        self._is_fast = is_fast  # whether headers are taken for UTF-8; if one is not, UnicodeDecodeError
        self._names: dict[str, Any] = {
            "quote": encode_basestring,
            "quoted": _quoted,
            "quoted_bytes": _quoted_bytes,
            "dumped": _dumped,
        }

    def function(self, code: str) -> Callable[[Subject], Any]:
        names = {**vars(log_values), **self._names}
        local = _OF_CONNECTION if self._tcp else _OF_STREAM
        used = "".join(f" {name} = {value}\n" for name, value in local.items() if f"{name}." in code)
        exec(f"def made(x):\n{used} return {code}", names)  # noqa: S102 - built from `operators`
        compiled: Callable[[Subject], Any] = names["made"]
        return compiled

    def in_two_speeds(self, write: Callable[[], str]) -> Render:
        """The function of what `write` writes, and for a header that is no UTF-8 another that can cope."""
        fast = self.function(write())
        self._is_fast = False
        careful = write()

        def render(subject: Subject) -> str:
            try:
                return cast(str, fast(subject))
            except UnicodeDecodeError:
                return cast(str, self.function(careful)(subject))

        return render if "decode(" in careful or "quoted" in careful else fast

    @property
    def _decode(self) -> str:
        return ".decode()" if self._is_fast else '.decode("utf-8", "surrogateescape")'

    def json_line(self, template: Mapping[str, Any]) -> str:
        """The expression of a line of JSON."""
        return _formatted([(each, None) if fixed else (None, each) for each, fixed in self.json(template)])

    def text(self, template: str) -> str:
        """The expression of a format string's text."""
        parts = [self._absent if _is_nothing(part) else part for part in self._parts(template)]
        return _formatted([(part, None) if isinstance(part, str) else (None, self._as_text(part)) for part in parts])

    def json(self, template: Any) -> Iterator[tuple[str, bool]]:
        """Pieces of a line of JSON: (constant text, true) or (expression of text, false)."""
        if isinstance(template, Mapping):
            yield "{", True
            for index, key in enumerate(sorted(template)):
                yield f"{',' if index else ''}{encode_basestring(key)}:", True
                yield from self.json(template[key])
            yield "}", True
        elif isinstance(template, list):
            yield "[", True
            for index, value in enumerate(template):
                if index:
                    yield ",", True
                yield from self.json(value)
            yield "]", True
        elif isinstance(template, str):
            yield self._json_leaf(template)
        else:
            yield _dumped(plain(template)), True

    def tree(self, template: Any) -> str:
        """The expression of a JSON format as Python objects."""
        if isinstance(template, Mapping):
            return f"{{{', '.join(f'{key!r}: {self.tree(template[key])}' for key in sorted(template))}}}"
        if isinstance(template, list):
            return f"[{', '.join(map(self.tree, template))}]"
        if not isinstance(template, str):
            return repr(plain(template))
        parts = self._parts(template)
        if len(parts) != 1 or isinstance(parts[0], str):
            return self.text(template)
        only = parts[0]
        if only.kind is Kind.BYTES:
            return f"(None if (v := {only.code}) is None else v{self._decode})"
        return f"({only.code} or None)" if only.kind is Kind.TEXT else only.code

    def _json_leaf(self, template: str) -> tuple[str, bool]:
        parts = self._parts(template)
        if all(isinstance(part, str) for part in parts):
            return encode_basestring("".join(map(str, parts))), True
        if len(parts) > 1:
            return f"{'quote' if self._is_fast else 'quoted'}({self.text(template)})", False
        only = parts[0]
        assert isinstance(only, Operator)
        if _is_nothing(only):
            return "null", True
        if only.kind is Kind.NUMBER:
            return only.code, False
        if only.kind is Kind.NUMBER_OR_NONE:
            return f'("null" if (v := {only.code}) is None else v)', False
        if only.kind is Kind.BYTES:
            value = "quote(v.decode())" if self._is_fast else "quoted_bytes(v)"
            return f'("null" if (v := {only.code}) is None else {value})', False
        if only.kind is Kind.JSON:
            return f"dumped({only.code})", False
        return f'({"quote" if self._is_fast else "quoted"}(v) if (v := {only.code}) else "null")', False

    def _as_text(self, part: Operator) -> str:
        absent = repr(self._absent)
        if part.kind in (Kind.NUMBER, Kind.ALWAYS):
            return part.code
        if part.kind is Kind.NUMBER_OR_NONE:
            return f"({absent} if (v := {part.code}) is None else v)"
        if part.kind is Kind.BYTES:
            return f"({absent} if (v := {part.code}) is None else v{self._decode})"
        if part.kind is Kind.JSON:
            return f"({absent} if (v := {part.code}) is None else v if type(v) is str else dumped(v))"
        return f"({part.code} or {absent})"

    def _parts(self, template: str) -> list[str | Operator]:
        """Constants and operators in turn."""
        parts: list[str | Operator] = []
        at = 0
        for found in _OPERATOR.finditer(template):
            parts.append(self._constant(template[at : found.start()], template))
            at = found.end()
            if found[1] is None:
                parts.append("%")
                continue
            length = None if found[3] is None else int(found[3])
            parts.append(operator(Asked(found[1], found[2] or "", length, self._tcp, self._place)))
            self._names.update(parts[-1].names)  # type: ignore[union-attr] # it is an operator
        parts.append(self._constant(template[at:], template))
        return [part for part in parts if part != ""]

    def _constant(self, text: str, template: str) -> str:
        if "%" in text:
            raise self._place.refuse(f"malformed command operator in {template!r}")
        return text


def _formatted(pieces: Sequence[tuple[str | None, str | None]]) -> str:
    """The expression that joins constant texts and the texts of expressions: (one, None) or (None, other).

    An f-string is made in half the time of `%`, but until Python 3.12 nothing may be escaped in its expressions.
    """
    codes = [code for _, code in pieces if code is not None]
    if any(letter in code for code in codes for letter in _NOT_IN_F_STRINGS):
        pattern = "".join("%s" if text is None else text.replace("%", "%%") for text, _ in pieces)
        return f"{pattern!r} % ({''.join(f'{code}, ' for code in codes)})"
    return f'f"""{"".join(f"{{{code}}}" if text is None else _literal(text) for text, code in pieces)}"""'


def _literal(text: str) -> str:
    return repr(text)[1:-1].replace('"', '\\"').replace("{", "{{").replace("}", "}}")


def _is_nothing(part: str | Operator) -> bool:
    return isinstance(part, Operator) and part.code == "None"


def _dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _quoted(text: str) -> str:
    return encode_basestring(text) if text.isascii() else _quoted_bytes(text.encode("utf-8", "surrogateescape"))


def _quoted_bytes(value: bytes) -> str:
    """A JSON string. As Envoy has it, what is no UTF-8 shows each of its bytes past ASCII as an escape."""
    try:
        return encode_basestring(value.decode())
    except UnicodeDecodeError:
        return json.dumps(value.decode("latin-1"))


def _without_empty(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        kept = {name: _without_empty(value) for name, value in tree.items()}
        return {name: value for name, value in kept.items() if value is not None and value != {}}
    if isinstance(tree, list):
        return [value for value in map(_without_empty, tree) if value is not None and value != {}]
    if isinstance(tree, str) and not tree.isascii():
        whole = tree.encode("utf-8", "surrogateescape")
        try:
            return whole.decode()
        except UnicodeDecodeError:
            return whole.decode("latin-1")
    return tree
