"""Tells the next sidecar who is calling, and learns it from the one before (`istio.metadata_exchange`).

The caller's node metadata travels in `x-envoy-peer-metadata`, a serialised `google.protobuf.Struct` in base64.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import TYPE_CHECKING

from envoy.config.core.v3.base_pb2 import Node
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from mesh.proxy.observe.workload import NOBODY, Workload, of_metadata

if TYPE_CHECKING:
    from mesh.proxy.filters.steps import Steps
    from mesh.proxy.http.stream import Stream

NAME = "istio.metadata_exchange"
_METADATA, _ID = b"x-envoy-peer-metadata", b"x-envoy-peer-metadata-id"
_HEADERS = frozenset((_METADATA, _ID))
_SENT = ("NAME", "NAMESPACE", "WORKLOAD_NAME", "LABELS", "SERVICE_ACCOUNT", "CLUSTER_ID", "MESH_ID")
_MAX_KNOWN = 256
_MAX_LENGTH = 16 * 1024
_MAX_LENGTH_KNOWN = 4 * 1024  # what is longer is read each time: strangers are to fill a megabyte at most


def add(steps: Steps, node: Node, is_inbound: bool) -> None:
    steps.request.append(_reader() if is_inbound else _writer(node))


def _writer(node: Node) -> Callable[[Stream], bool]:
    headers = {_METADATA: encode(node), _ID: node.id.encode()}
    lines = tuple(b"%b: %b" % header for header in headers.items())

    def write(stream: Stream) -> bool:
        head = stream.head
        if not _HEADERS.isdisjoint(head.marked):
            head.take(_METADATA)
            head.take(_ID)
        head.lines.extend(lines)
        head.marked.update(headers)
        return False

    return write


def _reader() -> Callable[[Stream], bool]:
    known: dict[bytes, Workload] = {}

    def read(stream: Stream) -> bool:
        value = stream.head.take(_METADATA)
        stream.head.take(_ID)
        if value is None:
            return False
        source = known.get(value)
        if source is None:
            source = decode(value)
            if len(value) <= _MAX_LENGTH_KNOWN:
                if len(known) >= _MAX_KNOWN:
                    known.clear()
                known[value] = source
        stream.source = source
        return False

    return read


def encode(node: Node) -> bytes:
    """The header's value for a node."""
    sent = Struct()
    for key in _SENT:
        if key in node.metadata.fields:
            sent.fields[key].CopyFrom(node.metadata.fields[key])
    return base64.b64encode(sent.SerializeToString(deterministic=True))


def decode(value: bytes) -> Workload:
    """The workload that a header names; nobody, if it is none that can be read: anyone may send this header."""
    if not value or len(value) > _MAX_LENGTH:
        return NOBODY
    try:
        return of_metadata(Struct.FromString(base64.b64decode(value, validate=True)))
    except (binascii.Error, DecodeError, ValueError, TypeError, AttributeError):
        return NOBODY
