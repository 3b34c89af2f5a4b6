"""Refuses protobuf fields that the compiler does not honour, instead of ignoring them.

Each compiler module keeps a table of the fields that it supports beside the code that reads them, as
`{message full name: {field name, ...}}`. Messages without an entry are refused whole unless a table names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from mesh.proxy.resources import Refused

Supported = Mapping[str, frozenset[str]]
OPAQUE = frozenset(("*",))  # every field of the message, unread: metadata and the like


class Place:
    """Where in which resource the compiler is, for refusals."""

    __slots__ = ("name", "path", "type")

    def __init__(self, resource_type: str, name: str, path: str = "") -> None:
        self.type = resource_type
        self.name = name
        self.path = path

    def at(self, field: str) -> Place:
        """A place further in: `.at("filters[0]")`."""
        return Place(self.type, self.name, f"{self.path}.{field}" if self.path else field)

    def refuse(self, reason: str, field: str = "") -> Refused:
        """The exception to raise."""
        return Refused(self.type, self.name, self.at(field).path if field else self.path, reason)


def check(message: Message, supported: Supported, place: Place) -> None:
    """Raise Refused for the first set field, at any depth, that `supported` does not list.

    `Any` fields are not entered: who unpacks one checks it with its own table.
    """
    allowed = supported.get(message.DESCRIPTOR.full_name)
    if allowed is None:
        raise place.refuse(f"{message.DESCRIPTOR.name} is not supported by this sidecar")
    if allowed is OPAQUE:
        return
    for field, value in message.ListFields():
        if field.name not in allowed:
            raise place.refuse("not supported by this sidecar", field.name)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            _check_field(field, value, supported, place)


LEAVES = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "Any",
        "Duration",
        "BoolValue",
        "UInt32Value",
        "UInt64Value",
        "DoubleValue",
        "StringValue",
        "Struct",
        "Timestamp",
    )
)


def _check_field(field: Any, value: Any, supported: Supported, place: Place) -> None:
    kind = field.message_type
    if kind.full_name in LEAVES:
        return
    if kind.GetOptions().map_entry:
        content = kind.fields_by_name["value"]
        if content.type == FieldDescriptor.TYPE_MESSAGE and content.message_type.full_name not in LEAVES:
            for key in value:
                check(value[key], supported, place.at(f"{field.name}[{key}]"))
    elif isinstance(value, Message):
        check(value, supported, place.at(field.name))
    else:
        for index, item in enumerate(value):
            check(item, supported, place.at(f"{field.name}[{index}]"))
