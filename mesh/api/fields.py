"""How a dataclass field is spelt in YAML, and the few value types that several kinds share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

IntOrString: TypeAlias = int | str
"""Kubernetes' IntOrString: a port number or a port name, a count or a percentage."""

Quantity: TypeAlias = int | float | str
"""A Kubernetes quantity as written: `500m`, `64Mi`, `2`."""

Opaque: TypeAlias = Mapping[str, Any]
"""A part of a manifest that is kept as it was written (camelCase keys) and whose schema is not ours."""


@dataclasses.dataclass(frozen=True, slots=True)
class Schema:
    """Annotates an `Opaque` with the entry of `mesh.api.known` that checks its field names and types."""

    name: str


IstioStatus: TypeAlias = Annotated[Opaque, Schema("IstioStatus")]


def spelt(name: str, default: Any = "") -> Any:
    """A field whose JSON name is not its camelCase form, such as `podIP`."""
    return dataclasses.field(default=default, metadata={"json": name})


def json_name(field: dataclasses.Field[Any]) -> str:
    """The name of a field in YAML and JSON: proto3's lowerCamelCase unless the field is `spelt` otherwise."""
    given = field.metadata.get("json")
    return str(given) if given else camel_case(field.name.removesuffix("_"))


def camel_case(snake: str) -> str:
    """`consecutive_5xx_errors` -> `consecutive5xxErrors`."""
    first, *rest = snake.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def json_fields(cls: type[Any]) -> Mapping[str, str]:
    """JSON name to attribute name, in declared order, of a dataclass of this package."""
    return {json_name(field): field.name for field in dataclasses.fields(cls)}
