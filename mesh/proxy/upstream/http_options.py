"""What a cluster's HTTP connections are told: Envoy's `HttpProtocolOptions`, compiled."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from mesh.proxy.http2.options import Http2Options
from mesh.proxy.upstream.keepalive import KeepaliveConfig


class Protocols(enum.Enum):
    """Which protocol a cluster's hosts are spoken to with."""

    HTTP1 = enum.auto()
    HTTP2 = enum.auto()
    NEGOTIATED = enum.auto()  # auto_config: by ALPN
    DOWNSTREAM = enum.auto()  # use_downstream_protocol_config: the one that the request came by


@dataclass(frozen=True, slots=True)
class AutoName:
    """Which of TLS's names follow the request: its Host, or `header` (lower case) where it has that."""

    sets_sni: bool
    checks_san: bool
    header: bytes | None = None


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """Times in seconds; 0 means no limit. `max_trailers` 0 drops HTTP/1's trailers: `enable_trailers` is not set."""

    protocols: Protocols = Protocols.HTTP1
    idle_timeout: float = 3600.0
    max_requests_per_connection: int = 0
    max_connection_duration: float = 0.0
    max_trailers: int = 0
    http2: Http2Options = field(default_factory=Http2Options)
    keepalive: KeepaliveConfig | None = None
    auto_name: AutoName | None = None
