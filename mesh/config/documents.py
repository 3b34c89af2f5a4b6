"""YAML or JSON text to plain documents with the line of every field.

Built from parser events rather than by a YAML loader, so that duplicate keys are seen, nesting and aliases are bounded
before anything is expanded, and each key keeps its line. Scalars resolve as `kubectl` resolves them: YAML 1.1 words,
but no dates and no sexagesimal numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from mesh.config.problems import Path, Problem, Source, format_path

MAX_CHARACTERS = 4 * 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 200_000
"""Of one text, aliases counted with all that they repeat."""

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE|yes|Yes|YES|on|On|ON")
_FALSE = re.compile(r"false|False|FALSE|no|No|NO|off|Off|OFF")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_RADIX_INT = re.compile(r"([-+]?)0(?:(b)([01_]+)|o?([0-7_]+)|(x)([0-9a-fA-F_]+))")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")
_TAGS = {
    "tag:yaml.org,2002:str",
    "tag:yaml.org,2002:map",
    "tag:yaml.org,2002:seq",
    "tag:yaml.org,2002:int",
    "tag:yaml.org,2002:float",
    "tag:yaml.org,2002:bool",
    "tag:yaml.org,2002:null",
}


class _RefusedError(Exception):
    """The rest of the text cannot be read."""

    def __init__(self, message: str, line: int, path: Path = ()) -> None:
        super().__init__(message)
        self.message, self.line, self.path = message, line, path


@dataclass(frozen=True, slots=True)
class Document:
    """`value` is plain JSON data with string keys; `problems` are duplicate keys and the like."""

    value: Any
    source: Source
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class _Anchored:
    value: Any
    nodes: int
    depth: int


@dataclass(slots=True)
class _Reader:
    """Turns the events of one text into documents."""

    file: str
    events: Iterator[Any]
    nodes: int = 0
    lines: dict[Path, int] = field(default_factory=dict)
    anchors: dict[str, _Anchored] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def documents(self) -> Iterator[Document]:
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.lines, self.anchors, self.problems = {}, {}, []
                value, _ = self._node(next(self.events), (), 0)
                if value is not None:
                    yield Document(value, Source(self.file, self.lines), tuple(self.problems))

    def _node(self, event: Any, path: Path, depth: int) -> tuple[Any, int]:
        """The value that starts at `event`, and how deep it is nested below here."""
        line = event.start_mark.line + 1
        self.lines.setdefault(path, line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, line, path, depth)
        if depth > MAX_DEPTH:
            raise _RefusedError(f"nested deeper than {MAX_DEPTH} levels", line, path)
        if event.tag is not None and event.tag not in _TAGS:
            raise _RefusedError(f'the tag "{event.tag}" is not allowed', line, path)
        before = self.nodes
        self._count(1, line)
        inner = 0
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value, inner = self._sequence(path, depth)
        else:
            value, inner = self._mapping(path, depth)
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(value, self.nodes - before, inner)
        return value, inner

    def _alias(self, event: Any, line: int, path: Path, depth: int) -> tuple[Any, int]:
        anchored = self.anchors.get(event.anchor)
        if anchored is None:
            raise _RefusedError(f'alias "*{event.anchor}" has no anchor before it', line, path)
        if depth + anchored.depth > MAX_DEPTH:
            raise _RefusedError(f"nested deeper than {MAX_DEPTH} levels", line, path)
        self._count(anchored.nodes, line)
        return anchored.value, anchored.depth

    def _count(self, nodes: int, line: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise _RefusedError(f"more than {MAX_NODES} values, aliases counted with what they repeat", line)

    def _sequence(self, path: Path, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        deepest = 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            value, inner = self._node(event, (*path, len(items)), depth + 1)
            items.append(value)
            deepest = max(deepest, inner + 1)
        return items, deepest

    def _mapping(self, path: Path, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        deepest = 0
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            key = self._key(event, line, path)
            if key in found:
                self._problem((*path, key), line, f'the key "{key}" is given twice; keep one')
            self.lines.setdefault((*path, key), line)
            value, inner = self._node(next(self.events), (*path, key), depth + 1)
            deepest = max(deepest, inner + 1)
            if key == "<<" and event.implicit[0]:
                self._merge(merged, value, line, path)
            else:
                found[key] = value
        return {**merged, **found}, deepest

    def _key(self, event: Any, line: int, path: Path) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise _RefusedError("a key must be a plain word, not a list, a map or an alias", line, path)
        return str(event.value)

    def _merge(self, merged: dict[str, Any], value: Any, line: int, path: Path) -> None:
        for part in value if isinstance(value, list) else [value]:
            if not isinstance(part, Mapping):
                raise _RefusedError('the merge key "<<" takes a map or a list of maps', line, path)
            for key, inner in part.items():
                merged.setdefault(key, inner)

    def _problem(self, path: Path, line: int, message: str) -> None:
        self.problems.append(Problem(message, format_path(path), self.file, line))


def _scalar(event: Any) -> Any:
    text: str = event.value
    if event.tag == "tag:yaml.org,2002:str" or not event.implicit[0]:
        return text
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    return _number(text)


def _number(text: str) -> int | float | str:
    if _INT.fullmatch(text):
        return int(text.replace("_", "")) if len(text) < 64 else text
    if match := _RADIX_INT.fullmatch(text):
        sign, binary, bits, octal, _, digits = match.groups()
        radix, raw = (2, bits) if binary else (8, octal) if octal else (16, digits)
        return int(sign + raw.replace("_", ""), radix) if raw.strip("_") and len(raw) < 64 else text
    if _FLOAT.fullmatch(text):
        number = float(text.replace("_", ""))
        return number if math.isfinite(number) else text
    return text


def read_documents(text: str, file: str = "") -> tuple[list[Document], list[Problem]]:
    """All documents of a text up to the first place that cannot be read, and that place as a problem."""
    if len(text) > MAX_CHARACTERS:
        return [], [Problem(f"larger than {MAX_CHARACTERS // 1024 // 1024} MiB; split it", file=file)]
    documents: list[Document] = []
    reader = _Reader(file, iter(yaml.parse(text, Loader=yaml.CSafeLoader)))
    try:
        for document in reader.documents():
            documents.append(document)
    except _RefusedError as error:
        return documents, [Problem(error.message, format_path(error.path), file, error.line)]
    except yaml.MarkedYAMLError as error:
        return documents, [_syntax_problem(error, file)]
    except (yaml.YAMLError, ValueError) as error:
        return documents, [Problem(f"not YAML: {error}", file=file)]
    return documents, []


def _syntax_problem(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    reason = ", ".join(str(part) for part in (error.context, error.problem) if part)
    return Problem(f"not YAML: {reason}", file=file, line=mark.line + 1 if mark else None)
