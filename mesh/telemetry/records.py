"""One line of the telemetry log that Envoy is told to write, and the labels of Istio's metrics that it stands for.

Source: the labels are those of "Istio Standard Metrics"; what Envoy alone cannot know is `unknown`, Istio's own word.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNKNOWN = "unknown"
_TCP = "tcp"

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """One end of a request, by Istio's names."""

    workload: str = UNKNOWN
    namespace: str = UNKNOWN
    canonical_service: str = UNKNOWN
    canonical_revision: str = "latest"
    cluster: str = UNKNOWN
    app: str = UNKNOWN
    version: str = UNKNOWN
    principal: str = UNKNOWN

    @classmethod
    def of_endpoint(cls, packed: str, principal: str) -> "Workload":
        """From the endpoint metadata `istio: workload`: `workload;namespace;canonical name;revision;cluster`."""
        parts = packed.split(";")
        if len(parts) != 5:
            return cls(principal=principal)
        name, namespace, canonical, revision, cluster = parts
        return cls(name, namespace, canonical, revision, cluster, canonical, revision, principal)

    def labels(self, side: str) -> dict[str, str]:
        return {
            f"{side}_workload": self.workload,
            f"{side}_canonical_service": self.canonical_service,
            f"{side}_canonical_revision": self.canonical_revision,
            f"{side}_workload_namespace": self.namespace,
            f"{side}_principal": self.principal,
            f"{side}_app": self.app,
            f"{side}_version": self.version,
            f"{side}_cluster": self.cluster,
        }


@dataclass(frozen=True, slots=True)
class Record:
    """A request as the metrics see it, or a TCP connection (`is_tcp`) at its end."""

    labels: Labels
    duration_ms: float
    request_bytes: float
    response_bytes: float
    is_tcp: bool = False


def read_record(line: str, own: Workload) -> Record:
    """`own` is the pod whose proxy wrote the line. Raises ValueError for a line that is not a JSON object."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError(f"not an object: {line[:80]!r}")
    return Record(
        labels=tuple(_labels(fields, own).items()),
        duration_ms=_number(fields, "duration_ms"),
        request_bytes=_number(fields, "bytes_received"),
        response_bytes=_number(fields, "bytes_sent"),
        is_tcp=fields.get("request_protocol") == _TCP,
    )


def _labels(fields: Mapping[str, Any], own: Workload) -> dict[str, str]:
    at_source = fields.get("reporter") == "source"
    peer = _text(fields, "upstream_peer" if at_source else "downstream_peer")
    other = (
        Workload.of_endpoint(_text(fields, "upstream_workload", ""), peer) if at_source else Workload(principal=peer)
    )
    source, destination = (own, other) if at_source else (other, own)
    return {
        "reporter": "source" if at_source else "destination",
        **source.labels("source"),
        **destination.labels("destination"),
        **_service(fields, own.namespace),
        **_answer(fields),
        "response_flags": _text(fields, "response_flags", "-"),
        "connection_security_policy": _policy(at_source, peer),
    }


def _answer(fields: Mapping[str, Any]) -> dict[str, str]:
    if fields.get("request_protocol") == _TCP:
        return {"request_protocol": _TCP}
    return {
        "request_protocol": "grpc" if _text(fields, "grpc_status", "") else "http",
        "response_code": _text(fields, "response_code", "0"),
        "grpc_response_status": _text(fields, "grpc_status", ""),
    }


def _policy(at_source: bool, peer: str) -> str:
    if at_source:
        return UNKNOWN
    return "none" if peer == UNKNOWN else "mutual_tls"


def _service(fields: Mapping[str, Any], namespace: str) -> dict[str, str]:
    host = _service_host(fields, namespace)
    parts = host.split(".")
    in_mesh = len(parts) > 2 and parts[2] == "svc"
    return {
        "destination_service": host,
        "destination_service_name": parts[0] if in_mesh else host,
        "destination_service_namespace": parts[1] if in_mesh else UNKNOWN,
    }


def _service_host(fields: Mapping[str, Any], namespace: str) -> str:
    """From the cluster `outbound|9080|v1|reviews.default.svc.cluster.local`, or from the TLS server name that a sidecar
    makes of it, `outbound_.9080_.v1_.reviews.default.svc.cluster.local`, else from the authority."""
    for key, separator in (("cluster", "|"), ("server_name", "_.")):
        parts = _text(fields, key, "").split(separator)
        if parts[0] == "outbound":
            return parts[-1]
    host = _text(fields, "authority").rsplit(":", 1)[0]
    return host if host == UNKNOWN or "." in host else f"{host}.{namespace}.svc.cluster.local"


def _text(fields: Mapping[str, Any], key: str, absent: str = UNKNOWN) -> str:
    """Envoy writes null, or `-`, for what it does not have."""
    value = fields.get(key)
    return absent if value in (None, "", "-") else str(value)


def _number(fields: Mapping[str, Any], key: str) -> float:
    value = fields.get(key)
    return float(value) if isinstance(value, int | float | str) and str(value).replace(".", "", 1).isdigit() else 0.0
