"""What Envoy counts of the client's side: listeners and their filters, connection managers, TCP proxies.

A table and no more: how they are counted in and read is `stats`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from mesh.proxy.observe.stats import Codes, Group, Histogram, HistogramValue, Tags


@dataclass(slots=True, eq=False)
class HttpStats(Group):
    """`http.<stat_prefix>.*`"""

    GAUGES: ClassVar[frozenset[str]] = frozenset(
        {"downstream_cx_active", "downstream_rq_active", "downstream_cx_ssl_active", "downstream_cx_http1_active",
         "downstream_cx_upgrades_active",
         "downstream_cx_http2_active",
         "fault__active_faults"}
    )  # fmt: skip

    downstream_cx_total: int = 0
    downstream_cx_active: int = 0
    downstream_cx_http1_total: int = 0
    downstream_cx_http1_active: int = 0
    downstream_cx_http2_total: int = 0
    downstream_cx_http2_active: int = 0
    downstream_rq_http2_total: int = 0
    downstream_rq_too_many_premature_resets: int = 0
    downstream_cx_ssl_total: int = 0
    downstream_cx_ssl_active: int = 0
    downstream_cx_destroy: int = 0
    downstream_cx_destroy_local: int = 0
    downstream_cx_destroy_remote: int = 0
    downstream_cx_destroy_active_rq: int = 0
    downstream_cx_destroy_local_active_rq: int = 0
    downstream_cx_destroy_remote_active_rq: int = 0
    downstream_cx_drain_close: int = 0
    downstream_cx_upgrades_total: int = 0
    downstream_cx_upgrades_active: int = 0
    downstream_cx_idle_timeout: int = 0
    downstream_cx_protocol_error: int = 0
    downstream_cx_rx_bytes_total: int = 0
    downstream_cx_tx_bytes_total: int = 0
    downstream_cx_delayed_close_timeout: int = 0
    downstream_flow_control_paused_reading_total: int = 0
    downstream_flow_control_resumed_reading_total: int = 0
    downstream_rq_total: int = 0
    downstream_rq_active: int = 0
    downstream_rq_rx_reset: int = 0
    downstream_rq_tx_reset: int = 0
    downstream_rq_timeout: int = 0
    downstream_rq_idle_timeout: int = 0
    downstream_rq_header_timeout: int = 0
    downstream_rq_max_duration_reached: int = 0
    downstream_cx_max_duration_reached: int = 0
    downstream_cx_max_requests_reached: int = 0
    downstream_rq_response_before_rq_complete: int = 0
    downstream_rq_non_relative_path: int = 0
    downstream_rq_too_large: int = 0
    downstream_rq_ws_on_non_ws_route: int = 0
    no_route: int = 0
    no_cluster: int = 0
    rq_total: int = 0
    rq_direct_response: int = 0
    rq_redirect: int = 0
    rq_reset_after_downstream_response_started: int = 0
    cors__origin_valid: int = 0
    cors__origin_invalid: int = 0
    tracing__random_sampling: int = 0
    tracing__service_forced: int = 0
    tracing__client_enabled: int = 0
    tracing__not_traceable: int = 0
    tracing__health_check: int = 0
    fault__aborts_injected: int = 0
    fault__delays_injected: int = 0
    fault__faults_overflow: int = 0
    fault__response_rl_injected: int = 0
    fault__active_faults: int = 0
    downstream_rq_time: Histogram = field(default_factory=Histogram)
    downstream_cx_length_ms: Histogram = field(default_factory=Histogram)
    codes: Codes = field(default_factory=Codes)

    def samples(self) -> Iterator[tuple[str, str, int | HistogramValue, Tags]]:
        yield from Group.samples(self)
        yield "downstream_rq_http1_total", "counter", self.downstream_rq_total - self.downstream_rq_http2_total, ()
        classes = self.codes.classes()
        yield "downstream_rq_completed", "counter", sum(self.codes.by_status.values()), ()
        for first, count in classes.items():
            yield f"downstream_rq_{first}xx", "counter", count, ()


@dataclass(slots=True, eq=False)
class Http1Stats(Group):
    """`http1.*`"""

    dropped_headers_with_underscores: int = 0
    requests_rejected_with_underscores_in_headers: int = 0


@dataclass(slots=True, eq=False)
class ListenerStats(Group):
    """`listener.<address>.*`"""

    GAUGES: ClassVar[frozenset[str]] = frozenset({"downstream_cx_active", "downstream_pre_cx_active"})

    downstream_cx_total: int = 0
    downstream_cx_active: int = 0
    downstream_cx_destroy: int = 0
    downstream_cx_overflow: int = 0
    downstream_cx_transport_socket_connect_timeout: int = 0
    downstream_global_cx_overflow: int = 0
    downstream_pre_cx_active: int = 0
    downstream_pre_cx_timeout: int = 0
    downstream_listener_filter_remote_close: int = 0
    no_filter_chain_match: int = 0
    ssl__handshake: int = 0
    ssl__connection_error: int = 0
    ssl__session_reused: int = 0
    ssl__no_certificate: int = 0
    ssl__fail_verify_error: int = 0
    ssl__fail_verify_san: int = 0
    ssl__fail_verify_cert_hash: int = 0
    ssl__fail_verify_no_cert: int = 0
    server_ssl_socket_factory__downstream_context_secrets_not_ready: int = 0


@dataclass(slots=True, eq=False)
class TlsInspectorStats(Group):
    """`tls_inspector.*`"""

    alpn_found: int = 0
    alpn_not_found: int = 0
    client_hello_too_large: int = 0
    sni_found: int = 0
    sni_not_found: int = 0
    tls_found: int = 0
    tls_not_found: int = 0


@dataclass(slots=True, eq=False)
class HttpInspectorStats(Group):
    """`http_inspector.*`"""

    http10_found: int = 0
    http11_found: int = 0
    http2_found: int = 0
    http_not_found: int = 0


@dataclass(slots=True, eq=False)
class ProxyProtocolStats(Group):
    """`proxy_proto.[<stat_prefix>.]*`"""

    not_found_allowed: int = 0
    not_found_disallowed: int = 0
    versions__v1__disallowed: int = 0
    versions__v1__error: int = 0
    versions__v1__found: int = 0
    versions__v2__disallowed: int = 0
    versions__v2__error: int = 0
    versions__v2__found: int = 0


@dataclass(slots=True, eq=False)
class ConnectionLimitStats(Group):
    """`connection_limit.<stat_prefix>.*`"""

    GAUGES: ClassVar[frozenset[str]] = frozenset({"active_connections"})

    active_connections: int = 0
    limited_connections: int = 0


@dataclass(slots=True, eq=False)
class TcpStats(Group):
    """`tcp.<stat_prefix>.*`"""

    GAUGES: ClassVar[frozenset[str]] = frozenset({"downstream_cx_active", "upstream_flush_active"})

    downstream_cx_total: int = 0
    downstream_cx_active: int = 0
    downstream_cx_no_route: int = 0
    downstream_cx_rx_bytes_total: int = 0
    downstream_cx_tx_bytes_total: int = 0
    downstream_flow_control_paused_reading_total: int = 0
    downstream_flow_control_resumed_reading_total: int = 0
    idle_timeout: int = 0
    max_downstream_connection_duration: int = 0
    upstream_flush_active: int = 0
    upstream_flush_total: int = 0
