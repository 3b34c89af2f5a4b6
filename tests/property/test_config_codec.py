"""Encoding and decoding are inverse, for durations and for whole resources of any shape."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.api.kinds import KINDS, Kind
from mesh.api.meta import ObjectMeta, Resource
from mesh.config.decode import decode_object
from mesh.config.durations import format_duration, parse_duration
from mesh.config.encode import encode

text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8)
durations = st.integers(0, 10**12).map(lambda ms: timedelta(milliseconds=ms))
moments = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: text,
    int: st.integers(0, 2**31 - 1),
    float: st.floats(0, 100),
    bool: st.booleans(),
    timedelta: durations,
    datetime: moments,
}


@given(durations)
def test_a_duration_reads_back_what_it_writes(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(st.text(alphabet="0123456789.hmsunµ- ", max_size=10))
def test_any_text_is_a_duration_or_an_error(words: str) -> None:
    refusal = ""
    parsed = None
    try:
        parsed = parse_duration(words)
    except ValueError as error:
        refusal = str(error)
    assert (parsed is None and words in refusal) or parse_duration(format_duration(parsed or timedelta())) == parsed


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Any value of an annotation of `mesh.api`."""
    if annotation in SCALARS:
        return SCALARS[annotation]
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return st.just({})
    if annotation is Any:
        return text
    if origin is Literal:
        return st.sampled_from(args)
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return st.sampled_from(list(annotation))
    if origin is tuple:
        return st.lists(values(args[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=2)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(st.none() if arg is types.NoneType else values(arg) for arg in args))
    return dataclass_values(annotation)


def dataclass_values(cls: Any) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {field.name: values(hints[field.name]) for field in dataclasses.fields(cls)}
    exclusive: tuple[tuple[str, ...], ...] = getattr(cls, "ONEOFS", ())

    def built(given_values: dict[str, Any]) -> Any:
        for group in exclusive:
            present = [name for name in group if given_values.get(name) is not None]
            given_values.update(dict.fromkeys(present[1:]))
        return cls(**given_values)

    return st.fixed_dictionaries(fields).map(built)


def resources(kind: Kind) -> st.SearchStrategy[Resource]:
    hints = typing.get_type_hints(kind.type, include_extras=True)
    fields = {
        field.name: values(hints[field.name])
        for field in dataclasses.fields(kind.type)
        if field.name not in ("api_version", "metadata")
    }
    namespace = "default" if kind.namespaced else ""
    meta = st.builds(ObjectMeta, name=st.just("x"), namespace=st.just(namespace), labels=st.dictionaries(text, text))
    return st.builds(kind.type, api_version=st.sampled_from(kind.api_versions), metadata=meta, **fields)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_a_resource_reads_back_what_it_writes(kind: Kind, data: st.DataObject) -> None:
    resource = data.draw(resources(kind))
    assert decode_object(encode(resource)).resource == resource
