"""The table of fields that are not carried out: it names real fields, and no field is neither compiled nor refused."""

from __future__ import annotations

import ast
import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mesh.api.fields import json_name
from mesh.api.kinds import BY_NAME
from mesh.config.support import UNSUPPORTED, unsupported_fields

ROOT = Path(__file__).parents[3] / "mesh"
CARRIED_OUT_BY = ("xds/compile", "snapshot", "registry")


def dataclass_of(annotation: Any) -> Any:
    """The dataclass inside an annotation such as `tuple[X, ...] | None`, if there is one."""
    if dataclasses.is_dataclass(annotation):
        return annotation
    arguments = [arg for arg in typing.get_args(annotation) if arg is not types.NoneType]
    return next((found for arg in reversed(arguments) if (found := dataclass_of(arg)) is not None), None)


def fields_of(cls: Any, path: str) -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Every field below a type: its path as the table writes it, itself, and its owner."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        annotation = hints[field.name]
        inner = dataclass_of(annotation)
        many = "tuple" in str(annotation) and inner is not None
        place = f"{path}{json_name(field)}{'[]' if many else ''}"
        yield place, field, cls
        if inner is not None and typing.get_origin(annotation) is not Mapping:
            yield from fields_of(inner, f"{place}.")


def spec_fields(kind: str) -> list[tuple[str, dataclasses.Field[Any], Any]]:
    return list(fields_of(typing.get_type_hints(BY_NAME[kind].type)["spec"], ""))


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_the_table_names_fields_that_exist(kind: str) -> None:
    known = {path.removesuffix("[]") for path, _, _ in spec_fields(kind)}
    assert [entry.path for entry in UNSUPPORTED[kind] if entry.path not in known] == []


def attributes_read() -> set[str]:
    """Every attribute name that the control plane's compiler reads anywhere."""
    found: set[str] = set()
    for folder in CARRIED_OUT_BY:
        for path in (ROOT / folder).glob("*.py"):
            tree = ast.parse(path.read_text())
            found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_a_field_is_compiled_or_refused(kind: str) -> None:
    """By name only: a field that the compiler never mentions, and that nobody refuses, would be ignored silently."""
    refused = [entry.path for entry in UNSUPPORTED[kind] if entry.values is None]
    read = attributes_read()
    ignored = [
        path
        for path, field, _ in spec_fields(kind)
        if field.name not in read and not any(f"{path}.".startswith((f"{entry}.", f"{entry}[]")) for entry in refused)
    ]
    assert ignored == []


def test_a_field_with_its_default_asks_for_nothing() -> None:
    spec = {"http": [{"mirrors": [], "mirror": None, "corsPolicy": {}}]}
    found = [path for path, _ in unsupported_fields("VirtualService", {"spec": spec})]
    assert found == [("spec", "http", 0, "corsPolicy")]
