"""Typed values back to plain JSON data; `decode_object(encode(x))` gives x."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mesh.api.fields import json_name
from mesh.api.meta import Resource
from mesh.config.durations import format_duration


def encode(value: Any) -> Any:
    """The plain JSON form of a typed value: what differs from its defaults, in YAML's spelling."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encode_dataclass(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(key): encode(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [encode(inner) for inner in value]
    return value


def _encode_dataclass(value: Any) -> dict[str, Any]:
    encoded: dict[str, Any] = {}
    if isinstance(value, Resource):
        encoded = {"apiVersion": value.api_version, "kind": value.KIND}
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if inner is None or inner == _default(field):
            continue
        encoded[json_name(field)] = encode(inner)
    return encoded


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
