"""A cluster's HTTP protocol options: `typed_extension_protocol_options`, or the older fields of the cluster itself."""

from __future__ import annotations

from typing import Any

from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from mesh.proxy.compile.values import seconds_or, unpack, value_or
from mesh.proxy.fields import Place, check
from mesh.proxy.upstream_config import UpstreamConfig

_U = "envoy.extensions.upstreams.http.v3."
SUPPORTED = {
    "envoy.config.core.v3.HttpProtocolOptions": frozenset(("idle_timeout", "max_requests_per_connection")),
    "envoy.config.core.v3.Http1ProtocolOptions": frozenset(("enable_trailers",)),
    _U + "HttpProtocolOptions": frozenset(("common_http_protocol_options", "explicit_http_config")),
    _U + "HttpProtocolOptions.ExplicitHttpConfig": frozenset(("http_protocol_options",)),
}
_KEY = _U + "HttpProtocolOptions"
_MAX_TRAILERS = 100  # Envoy's default max_headers_count


def upstream_config(cluster: Any, place: Place) -> UpstreamConfig:
    """What the cluster's connections are told. Raises Refused."""
    common, http1 = cluster.common_http_protocol_options, cluster.http_protocol_options
    for key, packed in cluster.typed_extension_protocol_options.items():
        inside = place.at(f"typed_extension_protocol_options[{key}]")
        if key != _KEY:
            raise inside.refuse("not supported by this sidecar")
        options = unpack(packed, HttpProtocolOptions, inside)
        check(options, SUPPORTED, inside)
        common, http1 = options.common_http_protocol_options, options.explicit_http_config.http_protocol_options
    return UpstreamConfig(
        idle_timeout=seconds_or(common, "idle_timeout", 3600.0),
        max_requests_per_connection=value_or(
            common, "max_requests_per_connection", value_or(cluster, "max_requests_per_connection", 0)
        ),
        max_trailers=_MAX_TRAILERS if http1.enable_trailers else 0,
    )
