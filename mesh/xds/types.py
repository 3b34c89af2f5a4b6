"""The five discovery types we serve, and how they depend on one another."""

from __future__ import annotations

from enum import Enum
from typing import Final


class XdsType(Enum):
    """A discovery service, by the short name `istioctl proxy-status` shows it under."""

    CDS = "CDS"
    EDS = "EDS"
    LDS = "LDS"
    RDS = "RDS"
    SDS = "SDS"

    @property
    def url(self) -> str:
        """Type URL of this service's resources."""
        return TYPE_URLS[self]


TYPE_URLS: Final = {
    XdsType.CDS: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    XdsType.EDS: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    XdsType.LDS: "type.googleapis.com/envoy.config.listener.v3.Listener",
    XdsType.RDS: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    XdsType.SDS: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
}
BY_URL: Final = {url: type_ for type_, url in TYPE_URLS.items()}
"""Type of each URL."""
PUSH_ORDER: Final = (XdsType.CDS, XdsType.EDS, XdsType.LDS, XdsType.RDS)
"""Make before break (xDS protocol, "Eventual consistency considerations"): what is referred to goes first."""
WARMED_BY: Final = {XdsType.CDS: XdsType.EDS, XdsType.LDS: XdsType.RDS}
"""A changed resource of the first type waits in the proxy until it has been sent its resource of the second."""
