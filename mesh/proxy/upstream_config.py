"""What a cluster's HTTP connections are told: Envoy's `HttpProtocolOptions`, compiled."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """Times in seconds; 0 means no limit. `max_trailers` 0 drops trailers: `enable_trailers` is not set."""

    idle_timeout: float = 3600.0
    max_requests_per_connection: int = 0
    max_trailers: int = 0
