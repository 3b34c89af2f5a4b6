"""The decoder of every type of `mesh.api`, built from the dataclass annotations."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import mesh.api.meta
import mesh.api.pod
from mesh.api.fields import Schema, json_fields, json_name
from mesh.api.known import KNOWN
from mesh.config.problems import Path, ProblemList
from mesh.config.scalars import (
    INVALID,
    KNOWN_SCALARS,
    SCALARS,
    Decoder,
    describe,
    did_you_mean,
    int_or_string,
    integer,
    quantity,
    refuse,
    string,
)

_decoders: dict[Any, Decoder] = {}
_known_decoders: dict[str, Decoder] = {}


def decoder_of(annotation: Any) -> Decoder:
    """The decoder of a dataclass, scalar, tuple[X, ...], Mapping[K, V], X | None, enum, Literal or Annotated Opaque."""
    if annotation not in _decoders:
        _decoders[annotation] = _build(annotation)
    return _decoders[annotation]


def _build(annotation: Any) -> Decoder:
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _dataclass_decoder(annotation)
    if annotation in SCALARS:
        return SCALARS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return _word_decoder({member.value: member for member in annotation})
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated_decoder(args)
    if origin is Literal:
        return _word_decoder({word: word for word in args})
    if origin is tuple:
        return _list_decoder_of(decoder_of(args[0]))
    if origin is Mapping:
        return _map_decoder_of(args[0], decoder_of(args[1]))
    if origin in (types.UnionType, Union):
        return _union_decoder(args)
    raise TypeError(f"no decoder for {annotation!r}")


def _word_decoder(words: Mapping[str, Any]) -> Decoder:
    def decode(value: Any, path: Path, problems: ProblemList) -> Any:
        if isinstance(value, str) and value in words:
            return words[value]
        hint = did_you_mean(value, words) if isinstance(value, str) else ""
        problems.add(path, f"must be one of {', '.join(words)}, not {describe(value)}{hint}")
        return INVALID

    return decode


def _annotated_decoder(args: tuple[Any, ...]) -> Decoder:
    inner = decoder_of(args[0])
    schemas = [extra for extra in args[1:] if isinstance(extra, Schema)]
    if not schemas:
        return inner
    check = known_decoder(schemas[0].name)

    def decode(value: Any, path: Path, problems: ProblemList) -> Any:
        if inner(value, path, problems) is INVALID or check(value, path, problems) is INVALID:
            return INVALID
        return value

    return decode


def _list_decoder_of(item: Decoder) -> Decoder:
    def decode(value: Any, path: Path, problems: ProblemList) -> Any:
        if not isinstance(value, list | tuple):
            return refuse(value, "a list", path, problems)
        decoded = tuple(item(inner, (*path, index), problems) for index, inner in enumerate(value))
        return INVALID if any(inner is INVALID for inner in decoded) else decoded

    return decode


def _map_decoder_of(key_type: Any, item: Decoder) -> Decoder:
    def decode(value: Any, path: Path, problems: ProblemList) -> Any:
        if not isinstance(value, Mapping):
            return refuse(value, "a map", path, problems)
        decoded = {
            _map_key(key, key_type, path, problems): item(inner, (*path, str(key)), problems)
            for key, inner in value.items()
        }
        return INVALID if INVALID in decoded or any(inner is INVALID for inner in decoded.values()) else decoded

    return decode


def _map_key(key: Any, key_type: Any, path: Path, problems: ProblemList) -> Any:
    if key_type is int:
        if isinstance(key, str) and key.isascii() and key.isdigit():
            return integer(int(key), (*path, key), problems)
        problems.add((*path, str(key)), f"the key must be a number, not {describe(key)}")
        return INVALID
    return string(key, (*path, str(key)), problems)


def _union_decoder(args: tuple[Any, ...]) -> Decoder:
    """`X | None` (an explicit null is the same as absent), IntOrString and Quantity are all that the API needs."""
    members = [arg for arg in args if arg is not types.NoneType]
    if set(members) == {int, str}:
        return int_or_string
    if set(members) == {int, float, str}:
        return quantity
    if len(members) != 1:
        raise TypeError(f"no decoder for a union of {members!r}")
    return decoder_of(members[0])


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    attribute: str
    decode: Decoder
    required: bool


def _plan(cls: type[Any]) -> dict[str, _Field]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {
        json_name(field): _Field(
            field.name,
            decoder_of(hints[field.name]),
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(cls)
    }


def _dataclass_decoder(cls: type[Any]) -> Decoder:
    plan: dict[str, _Field] = {}
    kept = {name: known_decoder(expression) for name, expression in KNOWN.get(cls.__name__, {}).items()}
    oneofs: tuple[tuple[str, ...], ...] = getattr(cls, "ONEOFS", ())

    def decode(value: Any, path: Path, problems: ProblemList) -> Any:
        if not plan:
            plan.update(_plan(cls))
        if not isinstance(value, Mapping):
            return refuse(value, "a map", path, problems)
        before = len(problems)
        problems.around.append(plan)
        given = _members(value, plan, kept, path, problems)
        problems.around.pop()
        for name, field in plan.items():
            if field.required and field.attribute not in given:
                problems.add(path, f"{name} is required")
        for group in oneofs:
            _check_oneof(cls, group, given, path, problems)
        return INVALID if len(problems) > before else cls(**given)

    return decode


def _members(
    value: Mapping[str, Any], plan: Mapping[str, _Field], kept: Mapping[str, Decoder], path: Path, problems: ProblemList
) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for key, inner in value.items():
        field = plan.get(key)
        if field is None and key not in kept:
            problems.add((*path, str(key)), f'unknown field "{key}"{_hint(str(key), [*plan, *kept], problems)}')
        elif inner is None:
            continue
        elif field is not None:
            given[field.attribute] = field.decode(inner, (*path, key), problems)
        else:
            kept[key](inner, (*path, key), problems)
    return given


def _hint(key: str, known: Collection[str], problems: ProblemList) -> str:
    near = did_you_mean(key, known)
    if not near and any(key in names for names in problems.around):
        return "; it belongs to a map further out: check the indentation"
    return near


def _check_oneof(
    cls: type[Any], group: tuple[str, ...], given: Mapping[str, Any], path: Path, problems: ProblemList
) -> None:
    present = [name for name, attribute in json_fields(cls).items() if attribute in group and attribute in given]
    if len(present) > 1:
        problems.add((*path, present[1]), f"only one of {', '.join(present)} may be set")


def known_decoder(expression: str) -> Decoder:
    """The check of a type expression of `mesh.api.known`."""
    if expression not in _known_decoders:
        _known_decoders[expression] = _build_known(expression)
    return _known_decoders[expression]


def _build_known(expression: str) -> Decoder:
    if expression.endswith("[]"):
        return _list_decoder_of(known_decoder(expression[:-2]))
    if expression.endswith("{}"):
        return _map_decoder_of(str, known_decoder(expression[:-2]))
    return KNOWN_SCALARS.get(expression) or _named_decoder(expression)


def _named_decoder(name: str) -> Decoder:
    for module in (mesh.api.meta, mesh.api.pod):
        if dataclasses.is_dataclass(cls := getattr(module, name, None)):
            return decoder_of(cls)
    return _kept_decoder(name)


def _kept_decoder(name: str) -> Decoder:
    """Checks a map against an entry of `mesh.api.known` and keeps it as it is."""
    fields = KNOWN[name]

    def decode(value: Any, path: Path, problems: ProblemList) -> Any:
        if not isinstance(value, Mapping):
            return refuse(value, "a map", path, problems)
        before = len(problems)
        _members(value, {}, {key: known_decoder(expression) for key, expression in fields.items()}, path, problems)
        return INVALID if len(problems) > before else value

    return decode
