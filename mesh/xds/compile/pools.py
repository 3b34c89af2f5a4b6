"""Connection pools, breakers and outlier detection, by Istio's mapping onto Envoy's cluster."""

from __future__ import annotations

from typing import Final

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster, UpstreamConnectionOptions
from envoy.config.cluster.v3.outlier_detection_pb2 import OutlierDetection
from envoy.config.core.v3.address_pb2 import TcpKeepalive
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions
from envoy.config.core.v3.protocol_pb2 import HttpProtocolOptions as CommonHttpOptions
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from mesh.api import destination_rule as api
from mesh.registry.protocol import Protocol
from mesh.xds.compile.messages import duration, packed

_CONNECT_TIMEOUT: Final = 10
_UNLIMITED: Final = 2**32 - 1
_RETRY_PERCENT: Final = 20.0
_LEAST_RETRIES: Final = 3
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def apply_pool(
    cluster: Cluster, pool: api.ConnectionPoolSettings | None, protocol: Protocol, *, inbound: bool = False
) -> None:
    """Timeouts, breakers and HTTP options; absent limits are Istio's 2^32-1.

    `h2UpgradePolicy` is for what clients speak with the server's sidecar, not for the app behind that (`inbound`).
    """
    tcp = (pool.tcp if pool else None) or api.TCPSettings()
    http = (pool.http if pool else None) or api.HTTPSettings()
    connect = duration(tcp.connect_timeout) if tcp.connect_timeout else Duration(seconds=_CONNECT_TIMEOUT)
    cluster.connect_timeout.CopyFrom(connect)
    cluster.circuit_breakers.CopyFrom(CircuitBreakers(thresholds=[_thresholds(tcp, http)]))
    if tcp.tcp_keepalive:
        cluster.upstream_connection_options.CopyFrom(_keepalive(tcp.tcp_keepalive))
    options = _http_options(tcp, http, protocol, may_upgrade=not inbound)
    if options is not None:
        cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(options))


def apply_server_name_of_request(cluster: Cluster, *, verifies: bool) -> None:
    """TLS names the request's host to the server, and `verifies` that the certificate is of it."""
    options = HttpProtocolOptions()
    if _HTTP_OPTIONS in cluster.typed_extension_protocol_options:
        cluster.typed_extension_protocol_options[_HTTP_OPTIONS].Unpack(options)
    else:
        options.explicit_http_config.http_protocol_options.SetInParent()
    options.upstream_http_protocol_options.auto_sni = True
    options.upstream_http_protocol_options.auto_san_validation = verifies
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(options))


def apply_retry_budget(cluster: Cluster, budget: api.RetryBudget | None) -> None:
    """In place of `maxRetries`. After `apply_pool`, whose breakers it is one of."""
    if budget is None:
        return
    found = cluster.circuit_breakers.thresholds[0].retry_budget
    found.budget_percent.value = _RETRY_PERCENT if budget.percent is None else budget.percent
    found.min_retry_concurrency.value = budget.min_retry_concurrency or _LEAST_RETRIES


def is_http2(pool: api.ConnectionPoolSettings | None, protocol: Protocol) -> bool:
    """Whether connections of this pool always speak HTTP/2: the port says so, or `h2UpgradePolicy`."""
    http = (pool.http if pool else None) or api.HTTPSettings()
    return not http.use_client_protocol and (protocol.is_http2 or _is_upgraded(http, protocol))


def _is_upgraded(http: api.HTTPSettings, protocol: Protocol) -> bool:
    return protocol is Protocol.HTTP and http.h2_upgrade_policy is api.H2UpgradePolicy.UPGRADE


def apply_outlier_detection(cluster: Cluster, settings: api.OutlierDetection | None) -> None:
    """Consecutive errors only: Istio turns success rates off. No panic unless `minHealthPercent` is set."""
    if settings is None:
        return
    out = OutlierDetection(enforcing_success_rate=UInt32Value(value=0))
    if settings.consecutive_5xx_errors is not None:
        out.consecutive_5xx.value = settings.consecutive_5xx_errors
        out.enforcing_consecutive_5xx.value = _enforced(settings.consecutive_5xx_errors)
    if settings.consecutive_gateway_errors is not None:
        out.consecutive_gateway_failure.value = settings.consecutive_gateway_errors
        out.enforcing_consecutive_gateway_failure.value = _enforced(settings.consecutive_gateway_errors)
    if settings.interval is not None:
        out.interval.CopyFrom(duration(settings.interval))
    if settings.base_ejection_time is not None:
        out.base_ejection_time.CopyFrom(duration(settings.base_ejection_time))
    if settings.max_ejection_percent > 0:
        out.max_ejection_percent.value = settings.max_ejection_percent
    if settings.split_external_local_origin_errors:
        _split_local_origin(out, settings.consecutive_local_origin_failures or 0)
    cluster.outlier_detection.CopyFrom(out)
    cluster.common_lb_config.healthy_panic_threshold.value = settings.min_health_percent


def _split_local_origin(out: OutlierDetection, failures: int) -> None:
    out.split_external_local_origin_errors = True
    out.enforcing_local_origin_success_rate.value = 0
    if failures > 0:
        out.consecutive_local_origin_failure.value = failures
        out.enforcing_consecutive_local_origin_failure.value = 100


def _enforced(count: int) -> int:
    return 100 if count > 0 else 0


def _thresholds(tcp: api.TCPSettings, http: api.HTTPSettings) -> CircuitBreakers.Thresholds:
    def limit(value: int) -> UInt32Value:
        return UInt32Value(value=value or _UNLIMITED)

    return CircuitBreakers.Thresholds(
        max_connections=limit(tcp.max_connections),
        max_pending_requests=limit(http.http1_max_pending_requests),
        max_requests=limit(http.http2_max_requests),
        max_retries=limit(http.max_retries),
        track_remaining=True,
    )


def _keepalive(settings: api.TcpKeepalive) -> UpstreamConnectionOptions:
    keepalive = TcpKeepalive()
    if settings.probes:
        keepalive.keepalive_probes.value = settings.probes
    if settings.time:
        keepalive.keepalive_time.value = int(settings.time.total_seconds())
    if settings.interval:
        keepalive.keepalive_interval.value = int(settings.interval.total_seconds())
    return UpstreamConnectionOptions(tcp_keepalive=keepalive)


def _limit_streams(http2: Http2ProtocolOptions, http: api.HTTPSettings) -> None:
    http2.SetInParent()
    if http.max_concurrent_streams:
        http2.max_concurrent_streams.value = http.max_concurrent_streams


def _http_options(
    tcp: api.TCPSettings, http: api.HTTPSettings, protocol: Protocol, *, may_upgrade: bool
) -> HttpProtocolOptions | None:
    """None where Envoy's defaults (HTTP/1.1, idle after 1 h) are meant."""
    common = CommonHttpOptions()
    if http.idle_timeout is not None:
        common.idle_timeout.CopyFrom(duration(http.idle_timeout))
    if http.max_requests_per_connection:
        common.max_requests_per_connection.value = http.max_requests_per_connection
    if tcp.max_connection_duration is not None:
        common.max_connection_duration.CopyFrom(duration(tcp.max_connection_duration))
    options = HttpProtocolOptions()
    if http.use_client_protocol and protocol.is_http:
        _limit_streams(options.use_downstream_protocol_config.http2_protocol_options, http)
        options.use_downstream_protocol_config.http_protocol_options.SetInParent()
    elif protocol.is_http2 or (may_upgrade and _is_upgraded(http, protocol)):
        _limit_streams(options.explicit_http_config.http2_protocol_options, http)
    elif not common.ByteSize():
        return None
    else:
        options.explicit_http_config.http_protocol_options.SetInParent()
    if common.ByteSize():
        options.common_http_protocol_options.CopyFrom(common)
    return options
