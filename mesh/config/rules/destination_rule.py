"""DestinationRule: Istio's ValidateDestinationRule."""

from __future__ import annotations

from mesh.api.destination_rule import (
    ClientTLSMode,
    ClientTLSSettings,
    ConnectionPoolSettings,
    ConsistentHashLB,
    DestinationRule,
    H2UpgradePolicy,
    HTTPSettings,
    LoadBalancerSettings,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    PortTrafficPolicy,
    TCPSettings,
    TrafficPolicy,
    TunnelSettings,
    WarmupConfiguration,
)
from mesh.config.rules.checks import (
    Place,
    check_duration,
    check_export_to,
    check_host,
    check_labels,
    check_non_negative,
    check_percent,
    check_port,
    check_selector,
    check_subset_name,
)

_MAGLEV_LIMIT = 5_000_011


def check_destination_rule(resource: DestinationRule, at: Place) -> None:
    """`at` is the place of `spec`."""
    spec = resource.spec
    check_host(spec.host, at / "host")
    _check_policy(spec.traffic_policy, at / "trafficPolicy")
    seen: set[str] = set()
    for index, subset in enumerate(spec.subsets):
        place = at / "subsets" / index
        check_subset_name(subset.name, place / "name")
        if subset.name in seen:
            (place / "name").refuse(f'the subset "{subset.name}" is given twice')
        seen.add(subset.name)
        check_labels(subset.labels, place / "labels")
        _check_policy(subset.traffic_policy, place / "trafficPolicy")
    check_export_to(spec.export_to, resource.namespace, at / "exportTo")
    check_selector(spec.workload_selector, at / "workloadSelector")


def _check_policy(policy: TrafficPolicy | None, at: Place) -> None:
    if policy is None:
        return
    if policy == TrafficPolicy():
        at.refuse("must set something; leave it out for the defaults")
    if policy.tunnel is not None and policy.proxy_protocol is not None:
        at.refuse("only one of tunnel and proxyProtocol may be set")
    _check_settings(policy, at)
    ports: set[int] = set()
    for index, port in enumerate(policy.port_level_settings):
        place = at / "portLevelSettings" / index
        if port.port is None:
            place.refuse("must have a port")
        else:
            check_port(port.port.number, place / "port" / "number")
            if port.port.number in ports:
                (place / "port" / "number").refuse(f"the port {port.port.number} is given twice")
            ports.add(port.port.number)
        if port == PortTrafficPolicy(port=port.port):
            place.refuse("must set something for its port")
        _check_settings(port, place)
    _check_tunnel(policy.tunnel, at / "tunnel")
    if policy.retry_budget is not None and policy.retry_budget.percent is not None:
        check_percent(policy.retry_budget.percent, at / "retryBudget" / "percent")


def _check_settings(policy: TrafficPolicy | PortTrafficPolicy, at: Place) -> None:
    _check_load_balancer(policy.load_balancer, policy.outlier_detection, at / "loadBalancer")
    _check_pool(policy.connection_pool, at / "connectionPool")
    _check_outlier_detection(policy.outlier_detection, at / "outlierDetection")
    _check_tls(policy.tls, at / "tls")


def _check_load_balancer(settings: LoadBalancerSettings | None, outlier: OutlierDetection | None, at: Place) -> None:
    if settings is None:
        return
    _check_consistent_hash(settings.consistent_hash, at / "consistentHash")
    _check_locality(settings.locality_lb_setting, outlier, at / "localityLbSetting")
    check_duration(settings.warmup_duration_secs, at / "warmupDurationSecs")
    _check_warmup(settings.warmup, at / "warmup")


def _check_consistent_hash(hashing: ConsistentHashLB | None, at: Place) -> None:
    if hashing is None:
        return
    if hashing.http_cookie is not None and not hashing.http_cookie.name:
        (at / "httpCookie").refuse("must have a name")
    if hashing.minimum_ring_size and (hashing.ring_hash or hashing.maglev):
        (at / "minimumRingSize").refuse("only one of minimumRingSize, ringHash and maglev may be set")
    if hashing.maglev is not None and not (2 <= hashing.maglev.table_size < _MAGLEV_LIMIT):
        (at / "maglev" / "tableSize").refuse(f"must be a prime number less than {_MAGLEV_LIMIT}")
    elif hashing.maglev is not None and not _is_prime(hashing.maglev.table_size):
        (at / "maglev" / "tableSize").refuse(f"must be a prime number, {hashing.maglev.table_size} is not")


def _is_prime(number: int) -> bool:
    return all(number % factor for factor in range(2, int(number**0.5) + 1))


def _check_locality(setting: LocalityLoadBalancerSetting | None, outlier: OutlierDetection | None, at: Place) -> None:
    if setting is None:
        return
    chosen = {
        "distribute": setting.distribute,
        "failover": setting.failover,
        "failoverPriority": setting.failover_priority,
    }
    if sum(map(bool, chosen.values())) > 1:
        at.refuse(f"only one of {', '.join(chosen)} may be set")
    if (setting.failover or setting.failover_priority) and outlier is None:
        at.refuse("failover needs outlierDetection to notice that hosts fail")
    for index, distribute in enumerate(setting.distribute):
        if sum(distribute.to.values()) != 100:
            (at / "distribute" / index / "to").refuse("the weights must add up to 100")
    for index, failover in enumerate(setting.failover):
        if failover.from_ == failover.to:
            (at / "failover" / index).refuse("must lead to another region than it comes from")


def _check_warmup(warmup: WarmupConfiguration | None, at: Place) -> None:
    if warmup is None:
        return
    if warmup.duration is None:
        at.refuse("must have a duration")
    check_duration(warmup.duration, at / "duration")
    check_percent(warmup.minimum_percent or 0, at / "minimumPercent")
    if warmup.aggression is not None and warmup.aggression < 1:
        (at / "aggression").refuse("must be at least 1")


def _check_pool(pool: ConnectionPoolSettings | None, at: Place) -> None:
    if pool is None:
        return
    if pool.http is None and pool.tcp is None:
        at.refuse("must have tcp or http settings")
    _check_tcp(pool.tcp, at / "tcp")
    _check_http(pool.http, at / "http")


def _check_tcp(tcp: TCPSettings | None, at: Place) -> None:
    if tcp is None:
        return
    check_non_negative(tcp.max_connections, at / "maxConnections")
    check_duration(tcp.connect_timeout, at / "connectTimeout")
    check_duration(tcp.max_connection_duration, at / "maxConnectionDuration")
    if tcp.tcp_keepalive is not None:
        check_non_negative(tcp.tcp_keepalive.probes, at / "tcpKeepalive" / "probes")
        check_duration(tcp.tcp_keepalive.time, at / "tcpKeepalive" / "time")
        check_duration(tcp.tcp_keepalive.interval, at / "tcpKeepalive" / "interval")


def _check_http(http: HTTPSettings | None, at: Place) -> None:
    if http is None:
        return
    for name, limit in (
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ):
        check_non_negative(limit, at / name)
    check_duration(http.idle_timeout, at / "idleTimeout")
    if http.h2_upgrade_policy is H2UpgradePolicy.UPGRADE and http.use_client_protocol:
        (at / "useClientProtocol").refuse("cannot be kept when h2UpgradePolicy is UPGRADE")


def _check_outlier_detection(outlier: OutlierDetection | None, at: Place) -> None:
    if outlier is None:
        return
    check_duration(outlier.base_ejection_time, at / "baseEjectionTime")
    check_duration(outlier.interval, at / "interval")
    check_percent(outlier.max_ejection_percent, at / "maxEjectionPercent")
    check_percent(outlier.min_health_percent, at / "minHealthPercent")
    for name, count in (
        ("consecutiveErrors", outlier.consecutive_errors),
        ("consecutive5xxErrors", outlier.consecutive_5xx_errors),
        ("consecutiveGatewayErrors", outlier.consecutive_gateway_errors),
        ("consecutiveLocalOriginFailures", outlier.consecutive_local_origin_failures),
    ):
        check_non_negative(count or 0, at / name)
    if outlier.consecutive_local_origin_failures and not outlier.split_external_local_origin_errors:
        (at / "consecutiveLocalOriginFailures").refuse("counts nothing unless splitExternalLocalOriginErrors is true")


def _check_tls(tls: ClientTLSSettings | None, at: Place) -> None:
    if tls is None:
        return
    files = {
        "clientCertificate": tls.client_certificate,
        "privateKey": tls.private_key,
        "caCertificates": tls.ca_certificates,
    }
    if tls.mode is ClientTLSMode.ISTIO_MUTUAL:
        for name, value in {**files, "credentialName": tls.credential_name}.items():
            if value:
                (at / name).refuse("must be left out with ISTIO_MUTUAL, whose certificates the mesh provides")
    if tls.insecure_skip_verify:
        for name, given in (("caCertificates", tls.ca_certificates), ("subjectAltNames", tls.subject_alt_names)):
            if given:
                (at / name).refuse("means nothing where insecureSkipVerify is true; leave one of them out")
    if tls.mode is not ClientTLSMode.MUTUAL:
        return
    if tls.credential_name and any(files.values()):
        (at / "credentialName").refuse("only one of credentialName and the certificate files may be set")
    for name in ("clientCertificate", "privateKey"):
        if not files[name] and not tls.credential_name:
            at.refuse(f"MUTUAL needs {name}")


def _check_tunnel(tunnel: TunnelSettings | None, at: Place) -> None:
    if tunnel is None:
        return
    if tunnel.protocol not in ("", "CONNECT", "POST"):
        (at / "protocol").refuse(f'must be CONNECT or POST, not "{tunnel.protocol}"')
    check_host(tunnel.target_host, at / "targetHost")
    check_port(tunnel.target_port, at / "targetPort")
