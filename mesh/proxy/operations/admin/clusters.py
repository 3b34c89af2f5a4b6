"""`/clusters`: every host of every cluster, its health and counters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mesh.proxy.downstream.connection_info import text_of
from mesh.proxy.operations.admin.page import Page, Reply, Request, Sidecar, json_reply, matcher, wants_json
from mesh.proxy.operations.plane import ClusterStatus, HostStatus

_COUNTERS = ("cx_connect_fail", "cx_total", "rq_error", "rq_success", "rq_timeout", "rq_total")
_GAUGES = ("cx_active", "rq_active", "rq_pending_active")
_LOCALITY = ("region", "zone", "sub_zone")
# Other names for flags in JSON, and those that it tells by `eds_health_status`.
_JSON_FLAGS = {"failed_active_hc": "failed_active_health_check", "degraded_active_hc": "failed_active_degraded_check"}
_EDS_FLAGS = {"failed_eds_health": "UNHEALTHY", "degraded_eds_health": "DEGRADED", "eds_status_draining": "DRAINING"}
_LIMITS = ("max_connections", "max_pending_requests", "max_requests", "max_retries")


async def answer(sidecar: Sidecar, request: Request) -> Reply:
    as_json, matches = wants_json(request), matcher(request)
    found = [status for status in await sidecar.plane.clusters() if matches is None or matches(status.name)]
    dynamic = frozenset(name for name in sidecar.configuration.accepted.clusters) - frozenset(
        sidecar.configuration.static.clusters
    )
    if as_json:
        return json_reply({"cluster_statuses": [_tree(status, status.name in dynamic) for status in found]})
    return Reply(
        "".join(f"{status.name}::{line}\n" for status in found for line in _lines(status, status.name in dynamic))
    )


def _lines(status: ClusterStatus, dynamic: bool) -> Iterator[str]:
    yield f"observability_name::{status.name}"
    if status.outlier is not None:
        names = ("success_rate_average", "success_rate_ejection_threshold")
        for name, rate in zip((*names, *(f"local_origin_{name}" for name in names)), status.outlier, strict=True):
            yield f"outlier::{name}::{_number(rate)}"
    for priority, limits in (("default", status.thresholds), ("high", status.high_thresholds)):
        for limit in _LIMITS:
            yield f"{priority}_priority::{limit}::{getattr(limits, limit)}"
    yield f"added_via_api::{str(dynamic).lower()}"
    for host in status.hosts:
        address = text_of((host.address, host.port))
        for field, value in _fields(host):
            yield f"{address}::{field}::{value}"


def _fields(host: HostStatus) -> Iterator[tuple[str, object]]:
    for name in sorted((*_COUNTERS, *_GAUGES)):
        yield name, getattr(host, name)
    yield "hostname", host.hostname
    yield "health_flags", _flags(host)
    yield "weight", host.weight
    yield from zip(_LOCALITY, host.locality, strict=True)
    yield from (("canary", str(host.is_canary).lower()), ("priority", host.priority))
    yield "success_rate", _number(host.success_rate)
    yield "local_origin_success_rate", _number(host.local_origin_success_rate)


def _number(value: float) -> str:
    """The shortest text that means this number, as Envoy writes it."""
    return repr(value).removesuffix(".0")


def _flags(host: HostStatus) -> str:
    return "".join(f"/{flag}" for flag in host.health_flags) or "healthy"


def _tree(status: ClusterStatus, dynamic: bool) -> dict[str, Any]:
    limits = [status.thresholds._asdict(), {"priority": "HIGH", **status.high_thresholds._asdict()}]
    tree: dict[str, Any] = {"name": status.name}
    if dynamic:
        tree["added_via_api"] = True
    if status.outlier is not None:
        if status.outlier.threshold >= 0:
            tree["success_rate_ejection_threshold"] = {"value": status.outlier.threshold}
        if status.outlier.local_threshold >= 0:
            tree["local_origin_success_rate_ejection_threshold"] = {"value": status.outlier.local_threshold}
    return tree | {
        "host_statuses": [_host(host) for host in status.hosts],
        "circuit_breakers": {"thresholds": limits},
        "observability_name": status.name,
    }


def _host(host: HostStatus) -> dict[str, Any]:
    health: dict[str, Any] = {"eds_health_status": "HEALTHY"}
    for flag in host.health_flags:
        if flag in _EDS_FLAGS:
            health["eds_health_status"] = _EDS_FLAGS[flag]
        else:
            health[_JSON_FLAGS.get(flag, flag)] = True
    tree: dict[str, Any] = {
        "address": {"socket_address": {"address": host.address, "port_value": host.port}},
        "stats": [*(_stat(host, name) for name in _COUNTERS), *({"type": "GAUGE"} | _stat(host, g) for g in _GAUGES)],
        "health_status": health,
        "weight": host.weight,
        "locality": {name: value for name, value in zip(_LOCALITY, host.locality, strict=True) if value},
    }
    if host.success_rate >= 0:
        tree["success_rate"] = {"value": host.success_rate}
    if host.local_origin_success_rate >= 0:
        tree["local_origin_success_rate"] = {"value": host.local_origin_success_rate}
    if host.priority:
        tree["priority"] = host.priority
    return tree | {"hostname": host.hostname} if host.hostname else tree


def _stat(host: HostStatus, name: str) -> dict[str, str]:
    value = getattr(host, name)
    return {"value": str(value), "name": name} if value else {"name": name}  # protobuf's JSON leaves zeros out


PAGES = (
    Page(
        "/clusters",
        "upstream cluster status",
        answer,
        parameters={
            "filter": "Regular expression (Google re2) for filtering clusters by name",
            "format": "File format to use; One of (text, json)",
        },
    ),
)
