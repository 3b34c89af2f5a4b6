"""YAML and JSON to protobuf messages, and back to JSON. Unknown fields are errors that name file, line and field.

MUST NOT do I/O: text in, message out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from mesh.proxy import message_types


class DecodeError(ValueError):
    """The text is not the message it should be. `str()` is one line: `file:line: field: reason`."""


def parse(text: str, into: Message, source: str) -> None:
    """Fill `into` from YAML or JSON text (`source` names it in errors). Raises DecodeError."""
    tree = _load(text, source)
    if not isinstance(tree, dict):
        raise DecodeError(f"{source}: expected a mapping of the fields of {into.DESCRIPTOR.name}")
    for type_url in _type_urls(tree):
        message_types.load(type_url)
    try:
        json_format.ParseDict(tree, into)
    except json_format.ParseError as error:
        from mesh.proxy import yaml_text  # noqa: PLC0415 - see `_load_yaml`

        path, reason = _place(str(error), into.DESCRIPTOR.name)
        where = f"{source}:{yaml_text.line_of(text, path)}"
        raise DecodeError(f"{where}: {path}: {reason}" if path else f"{where}: {reason}") from error


def to_dict(message: Message) -> dict[str, Any]:
    """The message as Envoy's admin pages print it: JSON with proto field names."""
    while True:
        try:
            return json_format.MessageToDict(message, preserving_proto_field_name=True)
        except TypeError as error:  # an Any of a type that is not imported yet
            type_url = re.search(r"type_url: (\S+?)\.?$", str(error))
            if type_url is None or not message_types.load(type_url[1]):
                raise DecodeError(str(error)) from error


def _load(text: str, source: str) -> Any:
    try:
        # JSON first: it is what the agent writes, and its parser is a hundred times the speed of YAML's.
        return json.loads(text, object_pairs_hook=_unique) if text.lstrip()[:1] == "{" else _load_yaml(text, source)
    except json.JSONDecodeError:
        return _load_yaml(text, source)  # a YAML flow mapping starts with a brace too
    except _RepeatedKeyError as error:
        raise DecodeError(f"{source}: {error}") from error


def _load_yaml(text: str, source: str) -> Any:
    from mesh.proxy import yaml_text  # noqa: PLC0415 - a megabyte that JSON needs not

    try:
        return yaml_text.load(text)
    except yaml_text.YamlError as error:
        raise DecodeError(f"{source}:{error.line}: {error}" if error.line else f"{source}: {error}") from error


class _RepeatedKeyError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKeyError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is repeated")
    return built


def _type_urls(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        url = tree.get("@type")
        if isinstance(url, str):
            yield url
        for value in tree.values():
            yield from _type_urls(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _type_urls(value)


_WRAPPED = re.compile(r"Failed to parse (\w+) field: ")
_AT = re.compile(r' at "?(\w+)((?:\.\w+|\[\d+\])*)"?\.*$')


def _place(error: str, root: str) -> tuple[str, str]:
    """The field path and the reason inside json_format's nested wording."""
    text = error.split("\n", 1)[0].rstrip(".")
    names = []
    while wrapped := _WRAPPED.match(text):
        names.append(wrapped[1])
        text = text[wrapped.end() :]
    at = _AT.search(text)
    if at is None:
        return ".".join(names), text
    return at[2].lstrip(".") if at[1] == root else at[0], text[: at.start()]
