"""Small Envoy messages that many resources hold."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from xds.type.v3.typed_struct_pb2 import TypedStruct

_MILLION: Final = 1_000_000


def packed(message: Message) -> Any:
    """The message in an Any; equal messages give equal bytes."""
    result = Any()
    result.Pack(message, deterministic=True)
    return result


def typed_struct(type_url: str, value: Mapping[str, object] | None = None) -> Any:
    """Configuration of a type that has no stubs here."""
    body = Struct()
    body.update(value or {})
    return packed(TypedStruct(type_url=type_url, value=body))


def duration(value: timedelta) -> Duration:
    result = Duration()
    result.FromTimedelta(value)
    return result


def address(host: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def over_ads() -> ConfigSource:
    """This resource's dependents come over the same stream. No fetch timeout: a proxy waits, it never guesses."""
    return ConfigSource(
        ads=AggregatedConfigSource(), initial_fetch_timeout=Duration(), resource_api_version=ApiVersion.V3
    )


def percentage(value: float) -> FractionalPercent:
    """0.0 to 100.0 in Envoy's finest grain, one in a million."""
    return FractionalPercent(numerator=round(value * _MILLION / 100), denominator=FractionalPercent.MILLION)
