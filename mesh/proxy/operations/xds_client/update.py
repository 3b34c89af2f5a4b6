"""What a response of the control plane asks for, in whichever protocol it came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import DecodeError

from mesh.proxy.operations.references import ENDPOINT, Kind
from mesh.proxy.operations.xds_client.kinds import MESSAGES, TYPE_URLS
from mesh.proxy.resources import Refused


@dataclass(frozen=True, slots=True)
class Update:
    """`messages` by name are new or changed; `is_whole` says that there are no others.

    `versions` are those of single messages, where the protocol has them; else they have the update's `version`.
    """

    messages: Mapping[str, Any]
    version: str
    is_whole: bool = False
    removed: frozenset[str] = frozenset()
    versions: Mapping[str, str] = field(default_factory=dict)


def unpack(kind: Kind, resources: Iterable[Packed]) -> dict[str, Any]:
    """The messages by name. Raises Refused for one of another type, without a name, or named twice."""
    found: dict[str, Any] = {}
    for index, packed in enumerate(resources):
        message = MESSAGES[kind]()
        label = message.DESCRIPTOR.name
        try:
            if not packed.Unpack(message):
                raise Refused(label, f"resources[{index}]", "", f"is a {packed.type_url}, not a {TYPE_URLS[kind]}")
        except DecodeError as error:
            raise Refused(label, f"resources[{index}]", "", f"cannot be decoded: {error}") from error
        name = message.cluster_name if kind == ENDPOINT else message.name
        if not name:
            raise Refused(label, f"resources[{index}]", "cluster_name" if kind == ENDPOINT else "name", "required")
        if name in found:
            raise Refused(label, name, "", f"duplicate {label.lower()} {name} found")
        found[name] = message
    return found
