"""Encodings that are put together from others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from mesh.xds.resource import Layer, Resource, length_delimited

_VIRTUAL_HOSTS: Final = RouteConfiguration.VIRTUAL_HOSTS_FIELD_NUMBER


def encoded_host(host: VirtualHost) -> bytes:
    """As a field of RouteConfiguration."""
    return length_delimited(_VIRTUAL_HOSTS, host.SerializeToString(deterministic=True))


def same_or_new(resources: Sequence[Resource], former: Layer) -> Layer:
    """A layer of these; the very same one as before if nothing in it changed, so that nobody looks at it again."""
    return former if list(former.by_name.values()) == list(resources) else Layer(resources)
