"""Resources as bytes, encoded once and shared by every proxy that sees them identically.

Protobuf messages may be joined by joining their encodings: repeated fields append. So a response is put together
from the cached bytes of its resources, and nothing is encoded twice (protobuf.dev, "Encoding", last-one-wins rules).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse
from google.protobuf.message import Message

from mesh.xds.types import XdsType

_RESOURCES_TAG: Final = bytes([DiscoveryResponse.RESOURCES_FIELD_NUMBER << 3 | 2])
_VERSION_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Resource:
    """One Envoy resource, ready to be sent.

    `encoded` is its `DiscoveryResponse.resources` entry; `version` a hash of the content; `wants` names the resources
    of the dependent type (`WARMED_BY`) that the proxy will ask for because of this one.
    """

    name: str
    version: str
    encoded: bytes = field(repr=False)
    wants: tuple[str, ...] = ()


def encode(type_: XdsType, name: str, message: Message, wants: Iterable[str] = ()) -> Resource:
    """Encode a compiled message, deterministically: equal content gives equal bytes and version."""
    return from_bytes(type_, name, message.SerializeToString(deterministic=True), wants)


def from_bytes(type_: XdsType, name: str, body: bytes, wants: Iterable[str] = ()) -> Resource:
    """Wrap the encoding of a message of `type_` as a resource."""
    wrapped = length_delimited(1, type_.url.encode()) + length_delimited(2, body)
    return Resource(name, content_version(body), _RESOURCES_TAG + _varint(len(wrapped)) + wrapped, tuple(wants))


def content_version(*parts: bytes) -> str:
    """A short hash of the parts; resources with the same version are the same."""
    digest = hashlib.blake2b(digest_size=_VERSION_BYTES)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def length_delimited(field_number: int, value: bytes) -> bytes:
    """A protobuf field of wire type 2 (strings, bytes, messages)."""
    return _varint(field_number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class ResourceSet:
    """Some resources of one type by name, with the version and the shared response body of them all."""

    __slots__ = ("__dict__", "by_name", "type")

    def __init__(self, type_: XdsType, by_name: Mapping[str, Resource]) -> None:
        self.type = type_
        self.by_name = by_name

    @cached_property
    def version(self) -> str:
        """Hash of the names and versions; the order they were compiled in does not count."""
        entries = (f"{name} {self.by_name[name].version}\n" for name in sorted(self.by_name))
        return content_version("".join(entries).encode())

    @cached_property
    def body(self) -> bytes:
        """The encoded `DiscoveryResponse` but for its nonce."""
        head = length_delimited(DiscoveryResponse.VERSION_INFO_FIELD_NUMBER, self.version.encode())
        tail = length_delimited(DiscoveryResponse.TYPE_URL_FIELD_NUMBER, self.type.url.encode())
        return b"".join((head, *(resource.encoded for resource in self.by_name.values()), tail))

    @cached_property
    def wants(self) -> frozenset[str]:
        """Names of all dependent resources these make a proxy ask for."""
        return frozenset(name for resource in self.by_name.values() for name in resource.wants)

    def response(self, nonce: str) -> bytes:
        """The encoded `DiscoveryResponse`; only the nonce is of this stream."""
        return self.body + length_delimited(DiscoveryResponse.NONCE_FIELD_NUMBER, nonce.encode())
