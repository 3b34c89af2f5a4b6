"""Traffic policies that do not do what they seem to."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.api.destination_rule import (
    ClientTLSMode,
    ClientTLSSettings,
    DestinationRule,
    OutlierDetection,
    Subset,
    TrafficPolicy,
)
from mesh.config.analyze.message import (
    NO_SERVER_CERTIFICATE_CHECK_HOST,
    NO_SERVER_CERTIFICATE_CHECK_PORT,
    OUTLIER_DETECTION_NEVER_EJECTS,
    Message,
    about,
)
from mesh.config.analyze.view import Of, View, full_host
from mesh.config.problems import Path

DEFAULT_MAX_EJECTION_PERCENT = 10
"""Envoy's, in whole per cent of the endpoints."""


def _policies(found: Of[DestinationRule]) -> Iterator[tuple[Path, TrafficPolicy, Subset | None]]:
    spec = found.resource.spec
    if spec.traffic_policy is not None:
        yield ("spec", "trafficPolicy"), spec.traffic_policy, None
    for index, subset in enumerate(spec.subsets):
        if subset.traffic_policy is not None:
            yield ("spec", "subsets", index, "trafficPolicy"), subset.traffic_policy, subset


def server_certificates(view: View) -> Iterator[Message]:
    """IST0128 and IST0129: TLS to a server whose certificate nobody verifies."""
    for found in view.destination_rules:
        name = f"{found.resource.namespace}/{found.resource.name}"
        for path, policy, _ in _policies(found):
            if mode := _unverified(policy.tls):
                text = f"DestinationRule {name} has TLS mode set to {mode} but no caCertificates are set to validate "
                text += f"server identity for host: {found.resource.spec.host}"
                yield about(found.manifest, (*path, "tls"), NO_SERVER_CERTIFICATE_CHECK_HOST, text)
            for index, port in enumerate(policy.port_level_settings):
                if mode := _unverified(port.tls):
                    number = port.port.number if port.port else 0
                    text = f"DestinationRule {name} has TLS mode set to {mode} but no caCertificates are set to "
                    text += f"validate server identity for host: {found.resource.spec.host} at port {number}"
                    place = (*path, "portLevelSettings", index, "tls")
                    yield about(found.manifest, place, NO_SERVER_CERTIFICATE_CHECK_PORT, text)


def _unverified(tls: ClientTLSSettings | None) -> str:
    if tls is None or tls.mode not in (ClientTLSMode.SIMPLE, ClientTLSMode.MUTUAL):
        return ""
    return "" if tls.ca_certificates or tls.credential_name or tls.insecure_skip_verify else tls.mode.value


def outlier_detection(view: View) -> Iterator[Message]:
    """MD0001: so few endpoints that ejecting a single one already exceeds maxEjectionPercent."""
    for found in view.destination_rules:
        service = view.services.get(full_host(found.resource.spec.host, found.resource.namespace))
        if service is None:
            continue
        for path, policy, subset in _policies(found):
            endpoints = sum(workload.replicas for workload in view.behind(service.resource, subset))
            for place, outlier in _outliers(path, policy):
                limit = outlier.max_ejection_percent or DEFAULT_MAX_EJECTION_PERCENT
                if endpoints and endpoints * limit < 100:
                    default = "" if outlier.max_ejection_percent else " by default"
                    needed = -(-100 // endpoints)
                    text = f"Outlier detection never ejects: maxEjectionPercent is {limit}{default}, and one of "
                    text += f'{endpoints} endpoint{"s" * (endpoints > 1)} of "{found.resource.spec.host}" is already '
                    text += f"{100 / endpoints:.0f} %. Set maxEjectionPercent to {needed} or more."
                    yield about(found.manifest, place, OUTLIER_DETECTION_NEVER_EJECTS, text)


def _outliers(path: Path, policy: TrafficPolicy) -> Iterator[tuple[Path, OutlierDetection]]:
    if policy.outlier_detection is not None:
        yield (*path, "outlierDetection"), policy.outlier_detection
    for index, port in enumerate(policy.port_level_settings):
        if port.outlier_detection is not None:
            yield (*path, "portLevelSettings", index, "outlierDetection"), port.outlier_detection
