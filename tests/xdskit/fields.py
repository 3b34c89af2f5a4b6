"""The fields of a kind, read off its types."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from mesh.api.fields import json_name
from mesh.api.kinds import BY_NAME


def spec_fields(kind: str) -> list[tuple[str, dataclasses.Field[Any], Any]]:
    """Every field below `spec`: its path as `mesh.config.support` writes it, itself, and its owner."""
    return list(_fields_of(typing.get_type_hints(BY_NAME[kind].type)["spec"], ""))


def _fields_of(cls: Any, path: str) -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        annotation = hints[field.name]
        inner = _dataclass_of(annotation)
        many = "tuple" in str(annotation) and inner is not None
        place = f"{path}{json_name(field)}{'[]' if many else ''}"
        yield place, field, cls
        if inner is not None and typing.get_origin(annotation) is not Mapping:
            yield from _fields_of(inner, f"{place}.")


def _dataclass_of(annotation: Any) -> Any:
    """The dataclass inside an annotation such as `tuple[X, ...] | None`, if there is one."""
    if dataclasses.is_dataclass(annotation):
        return annotation
    arguments = [arg for arg in typing.get_args(annotation) if arg is not types.NoneType]
    return next((found for arg in reversed(arguments) if (found := _dataclass_of(arg)) is not None), None)
