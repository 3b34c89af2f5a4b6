"""A cluster's HTTP protocol options: `typed_extension_protocol_options`, or the older fields of the cluster itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from mesh.proxy.compile import http2
from mesh.proxy.compile.values import seconds_or, unpack, value_or
from mesh.proxy.fields import Place, check
from mesh.proxy.upstream.http_options import AutoName, Protocols, UpstreamConfig

_U = "envoy.extensions.upstreams.http.v3."
SUPPORTED = {
    "envoy.config.core.v3.HttpProtocolOptions": frozenset(
        ("idle_timeout", "max_requests_per_connection", "max_connection_duration")
    ),
    "envoy.config.core.v3.Http1ProtocolOptions": frozenset(("enable_trailers",)),
    _U + "HttpProtocolOptions": frozenset(
        ("common_http_protocol_options", "explicit_http_config", "upstream_http_protocol_options",
         "use_downstream_protocol_config", "auto_config")
    ),
    _U + "HttpProtocolOptions.ExplicitHttpConfig": frozenset(("http_protocol_options", "http2_protocol_options")),
    _U + "HttpProtocolOptions.UseDownstreamHttpConfig": frozenset(("http_protocol_options", "http2_protocol_options")),
    _U + "HttpProtocolOptions.AutoHttpConfig": frozenset(("http_protocol_options", "http2_protocol_options")),
    "envoy.config.core.v3.UpstreamHttpProtocolOptions": frozenset(
        ("auto_sni", "auto_san_validation", "override_auto_sni_header")
    ),
    **http2.SUPPORTED,
}  # fmt: skip
_KEY = _U + "HttpProtocolOptions"
_MAX_HEADERS = 100  # Envoy's default max_headers_count
_MAX_HEAD = 60 * 1024
_KINDS = {"auto_config": Protocols.NEGOTIATED, "use_downstream_protocol_config": Protocols.DOWNSTREAM}


def upstream_config(cluster: Any, place: Place) -> UpstreamConfig:
    """What the cluster's connections are told. Raises Refused."""
    for key, packed in cluster.typed_extension_protocol_options.items():
        inside = place.at(f"typed_extension_protocol_options[{key}]")
        if key != _KEY:
            raise inside.refuse("not supported by this sidecar")
        options = unpack(packed, HttpProtocolOptions, inside)
        check(options, SUPPORTED, inside)
        return _typed(cluster, options, inside)
    has_http2 = cluster.HasField("http2_protocol_options")
    made = _config(
        cluster,
        Protocols.HTTP2 if has_http2 else Protocols.HTTP1,
        cluster.common_http_protocol_options,
        cluster,
        place,
    )
    return replace(made, auto_name=_auto_name(cluster.upstream_http_protocol_options))


def _typed(cluster: Any, options: Any, place: Place) -> UpstreamConfig:
    kind = options.WhichOneof("upstream_protocol_options")
    if kind is None:
        raise place.refuse("one of explicit_http_config, use_downstream_protocol_config, auto_config is required")
    config, inside = getattr(options, kind), place.at(kind)
    if kind == "explicit_http_config":
        chosen = config.WhichOneof("protocol_config")
        if chosen is None:
            raise inside.refuse("one of http_protocol_options, http2_protocol_options is required")
        protocols = Protocols.HTTP2 if chosen == "http2_protocol_options" else Protocols.HTTP1
    else:
        protocols = _KINDS[kind]
    if protocols is Protocols.NEGOTIATED and not cluster.HasField("transport_socket"):
        raise inside.refuse("the cluster's transport socket has no ALPN to choose by")
    common = options.common_http_protocol_options
    made = _config(cluster, protocols, common, config, inside)
    return replace(made, auto_name=_auto_name(options.upstream_http_protocol_options))


def offered(protocols: Protocols) -> tuple[str, ...]:
    """What ALPN offers where the transport socket does not say it."""
    return _OFFERED[protocols]


_OFFERED = {
    Protocols.HTTP1: (),  # such a cluster may serve a tcp_proxy too, which has nothing to do with HTTP
    Protocols.HTTP2: ("h2",),
    Protocols.NEGOTIATED: ("h2", "http/1.1"),
    Protocols.DOWNSTREAM: (),  # a context offers the same to all, and here it depends on the request
}


def _auto_name(options: Any) -> AutoName | None:
    if not options.auto_sni and not options.auto_san_validation:
        return None
    header = options.override_auto_sni_header.lower().encode() or None
    return AutoName(options.auto_sni, options.auto_san_validation, header)


def _config(cluster: Any, protocols: Protocols, common: Any, of_protocol: Any, place: Place) -> UpstreamConfig:
    """`of_protocol` is the message that holds the options of either protocol."""
    h2, http1 = of_protocol.http2_protocol_options, of_protocol.http_protocol_options
    inside = place.at("http2_protocol_options")
    return UpstreamConfig(
        protocols=protocols,
        idle_timeout=seconds_or(common, "idle_timeout", 3600.0),
        max_requests_per_connection=value_or(
            common, "max_requests_per_connection", value_or(cluster, "max_requests_per_connection", 0)
        ),
        max_connection_duration=seconds_or(common, "max_connection_duration", 0.0),
        max_trailers=_MAX_HEADERS if http1.enable_trailers else 0,
        http2=http2.http2_options(
            h2,
            inside,
            buffer_limit=value_or(cluster, "per_connection_buffer_limit_bytes", 1024 * 1024),
            max_head=_MAX_HEAD,
            max_headers=_MAX_HEADERS,
        ),
        keepalive=http2.keepalive(h2, inside),
    )
