"""Resources as bytes, encoded once and shared by every proxy that sees them identically.

Protobuf messages may be joined by joining their encodings: repeated fields append. So a response is put together
from the cached bytes of its resources, and nothing is encoded twice (protobuf.dev, "Encoding", last-one-wins rules).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Final

from envoy.service.discovery.v3 import discovery_pb2 as pb
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse, DiscoveryResponse
from google.protobuf.message import Message

from mesh.xds.types import XdsType

_RESOURCES_TAG: Final = bytes([DiscoveryResponse.RESOURCES_FIELD_NUMBER << 3 | 2])
_DELTA_RESOURCES_TAG: Final = bytes([DeltaDiscoveryResponse.RESOURCES_FIELD_NUMBER << 3 | 2])
_VERSION_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Resource:
    """One Envoy resource, ready to be sent.

    `encoded` is its `DiscoveryResponse.resources` entry; `version` a hash of the content; `wants` names the resources
    of the dependent type (`WARMED_BY`) that the proxy will ask for because of this one. `head` and `encoded` together
    are its `DeltaDiscoveryResponse.resources` entry, whose field for the message has the same number.
    """

    name: str
    version: str
    encoded: bytes = field(repr=False)
    wants: tuple[str, ...] = ()
    head: bytes = field(default=b"", repr=False)


def encode(type_: XdsType, name: str, message: Message, wants: Iterable[str] = ()) -> Resource:
    """Encode a compiled message, deterministically: equal content gives equal bytes and version."""
    return from_bytes(type_, name, message.SerializeToString(deterministic=True), wants)


def from_bytes(type_: XdsType, name: str, body: bytes, wants: Iterable[str] = ()) -> Resource:
    """Wrap the encoding of a message of `type_` as a resource."""
    wrapped = length_delimited(1, type_.url.encode()) + length_delimited(2, body)
    encoded = _RESOURCES_TAG + _varint(len(wrapped)) + wrapped
    version = content_version(body)
    return Resource(name, version, encoded, tuple(wants), _delta_head(name, version, len(encoded)))


def held(name: str, version: str) -> Resource:
    """A resource that a proxy says it has. It is never sent."""
    return Resource(name, version, b"")


def content_version(*parts: bytes) -> str:
    """A short hash of the parts; resources with the same version are the same."""
    digest = hashlib.blake2b(digest_size=_VERSION_BYTES)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def length_delimited(field_number: int, value: bytes) -> bytes:
    """A protobuf field of wire type 2 (strings, bytes, messages)."""
    return _varint(field_number << 3 | 2) + _varint(len(value)) + value


def _delta_head(name: str, version: str, size: int) -> bytes:
    inner = length_delimited(pb.Resource.NAME_FIELD_NUMBER, name.encode())
    inner += length_delimited(pb.Resource.VERSION_FIELD_NUMBER, version.encode())
    return _DELTA_RESOURCES_TAG + _varint(len(inner) + size) + inner


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Layer:
    """Some resources of one type, in the order they are sent; made once, shared by every set that it is part of."""

    __slots__ = ("__dict__", "by_name")

    def __init__(self, resources: Iterable[Resource]) -> None:
        self.by_name: Mapping[str, Resource] = {resource.name: resource for resource in resources}

    @cached_property
    def version(self) -> str:
        """Hash of names and versions; the order does not count."""
        entries = (f"{name} {self.by_name[name].version}\n" for name in sorted(self.by_name))
        return content_version("".join(entries).encode())

    @cached_property
    def encoded(self) -> bytes:
        """All the resources' bytes."""
        return b"".join(resource.encoded for resource in self.by_name.values())

    @cached_property
    def delta(self) -> bytes:
        """All the resources as entries of a delta response."""
        return b"".join(part for resource in self.by_name.values() for part in (resource.head, resource.encoded))

    @cached_property
    def wants(self) -> frozenset[str]:
        """Names of all dependent resources these make a proxy ask for."""
        return frozenset(name for resource in self.by_name.values() for name in resource.wants)


class ResourceSet:
    """The resources of one type that a proxy is sent: layers that it shares with others, and layers of its own.

    No name is in two layers.
    """

    __slots__ = ("layers", "type", "version")

    def __init__(self, type_: XdsType, *layers: Layer) -> None:
        self.type = type_
        self.layers = tuple(layer for layer in layers if layer.by_name)
        self.version = content_version(*(layer.version.encode() for layer in self.layers))

    def __contains__(self, name: str) -> bool:
        return any(name in layer.by_name for layer in self.layers)

    def get(self, name: str) -> Resource | None:
        """The resource of that name, if there is one."""
        return next((layer.by_name[name] for layer in self.layers if name in layer.by_name), None)

    def __iter__(self) -> Iterator[Resource]:
        return (resource for layer in self.layers for resource in layer.by_name.values())

    def waits_only_for(self, names: frozenset[str]) -> bool:
        """Whether `names` hold every dependent resource that these make a proxy ask for."""
        return all(layer.wants <= names for layer in self.layers)

    def changed_since(self, former: ResourceSet) -> tuple[Resource, ...]:
        """Resources that `former` has not, or in another version."""
        ours, theirs = self._unshared(former)
        return tuple(resource for layer in ours for resource in _new_or_changed(layer, theirs))

    def gone_since(self, former: ResourceSet) -> tuple[Resource, ...]:
        """Resources that only `former` has."""
        ours, theirs = self._unshared(former)
        return tuple(resource for layer in theirs for resource in _missing(layer, ours))

    def _unshared(self, former: ResourceSet) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
        """The layers of either set that the other has not: names are in one layer only, so the rest is equal."""
        ours = tuple(layer for layer in self.layers if layer not in former.layers)
        return ours, tuple(layer for layer in former.layers if layer not in self.layers)

    def only(self, names: Collection[str]) -> ResourceSet:
        """Those of a client that asked by name."""
        return ResourceSet(self.type, Layer(resource for resource in self if resource.name in names))

    def response(self, nonce: str) -> bytes:
        """The encoded `DiscoveryResponse`; only version and nonce are of this set and stream."""
        return b"".join(
            (
                length_delimited(DiscoveryResponse.VERSION_INFO_FIELD_NUMBER, self.version.encode()),
                *(layer.encoded for layer in self.layers),
                length_delimited(DiscoveryResponse.TYPE_URL_FIELD_NUMBER, self.type.url.encode()),
                length_delimited(DiscoveryResponse.NONCE_FIELD_NUMBER, nonce.encode()),
            )
        )

    def delta_since(self, former: ResourceSet) -> bytes:
        """`changed_since` as entries of a delta response."""
        ours, theirs = self._unshared(former)
        return b"".join(_encoded_changes(layer, theirs) for layer in ours)


def delta_response(type_: XdsType, version: str, nonce: str, entries: Iterable[bytes], removed: Iterable[str]) -> bytes:
    """The encoded `DeltaDiscoveryResponse` of these entries. `version` is for people to read."""
    removed_field = DeltaDiscoveryResponse.REMOVED_RESOURCES_FIELD_NUMBER
    return b"".join(
        (
            length_delimited(DeltaDiscoveryResponse.SYSTEM_VERSION_INFO_FIELD_NUMBER, version.encode()),
            *entries,
            length_delimited(DeltaDiscoveryResponse.TYPE_URL_FIELD_NUMBER, type_.url.encode()),
            length_delimited(DeltaDiscoveryResponse.NONCE_FIELD_NUMBER, nonce.encode()),
            *(length_delimited(removed_field, name.encode()) for name in removed),
        )
    )


# Proxies move from one snapshot to the next with the same shared layers, so what differs is worked out once for all.
@lru_cache(maxsize=32)
def _new_or_changed(layer: Layer, former: tuple[Layer, ...]) -> tuple[Resource, ...]:
    versions = {resource.name: resource.version for own in former for resource in own.by_name.values()}
    return tuple(own for own in layer.by_name.values() if versions.get(own.name) != own.version)


@lru_cache(maxsize=32)
def _encoded_changes(layer: Layer, former: tuple[Layer, ...]) -> bytes:
    if not former:
        return layer.delta
    return Layer(_new_or_changed(layer, former)).delta


@lru_cache(maxsize=32)
def _missing(layer: Layer, present: tuple[Layer, ...]) -> tuple[Resource, ...]:
    return tuple(own for name, own in layer.by_name.items() if not any(name in other.by_name for other in present))
