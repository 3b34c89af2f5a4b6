"""PeerAuthentication: Istio's ValidatePeerAuthentication."""

from __future__ import annotations

from mesh.api.peer_authentication import PeerAuthentication
from mesh.config.rules.checks import Place, check_port, check_selector


def check_peer_authentication(resource: PeerAuthentication, at: Place) -> None:
    """`at` is the place of `spec`."""
    spec = resource.spec
    check_selector(spec.selector, at / "selector")
    if spec.port_level_mtls and (spec.selector is None or not spec.selector.match_labels):
        (at / "portLevelMtls").refuse("needs a selector: ports mean nothing without the workloads that have them")
    for port in spec.port_level_mtls:
        check_port(port, at / "portLevelMtls" / str(port))
