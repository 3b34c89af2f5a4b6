"""What the main process and its workers say to each other: pickled tuples in frames, over a socket pair.

Pickle is safe here: both ends are this program, and nobody else holds the socket.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum, auto
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster

from mesh.proxy.operations.xds_client.kinds import MESSAGES
from mesh.proxy.resources import Resources

_LENGTH = struct.Struct("!I")

Encoded = dict[str, dict[str, bytes]]


class Verb(Enum):
    """What the main process asks of a worker."""

    CHECK = auto()
    APPLY = auto()
    WARMING = auto()
    SAMPLES = auto()
    CLUSTERS = auto()
    LISTENERS = auto()
    RESET = auto()
    REOPEN = auto()
    FAIL = auto()
    DRAIN = auto()
    CLOSE = auto()


async def receive(reader: asyncio.StreamReader) -> Any:
    """The next frame. Raises asyncio.IncompleteReadError at the end of the stream."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))  # noqa: S301 - see the module's docstring


async def send(writer: asyncio.StreamWriter, frame: Any) -> None:
    """Write one frame. Raises ConnectionError when the other end is gone."""
    data = pickle.dumps(frame)
    writer.write(_LENGTH.pack(len(data)) + data)
    await writer.drain()


def encode(resources: Resources) -> Encoded:
    """Every message as its bytes."""
    return {
        field.name: {name: message.SerializeToString() for name, message in getattr(resources, field.name).items()}
        for field in fields(Resources)
    }


class Decoder:
    """Bytes to messages; a message whose bytes stay the same stays the same object."""

    def __init__(self) -> None:
        self._known: Mapping[str, Mapping[str, tuple[bytes, Any]]] = {}

    def decode(self, encoded: Encoded) -> Resources:
        decoded = {kind: self._messages(kind, found) for kind, found in encoded.items()}
        self._known = decoded
        return Resources(**{kind: {name: pair[1] for name, pair in found.items()} for kind, found in decoded.items()})

    def _messages(self, kind: str, found: Mapping[str, bytes]) -> dict[str, tuple[bytes, Any]]:
        known = self._known.get(kind, {})
        message = next((cls for name, cls in MESSAGES.items() if name == kind), Cluster)  # `expected` ones are clusters
        return {
            name: known[name] if name in known and known[name][0] == data else (data, message.FromString(data))
            for name, data in found.items()
        }
