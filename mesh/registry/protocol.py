"""Protocol of a service port by Istio's explicit selection: `appProtocol`, else the port name's prefix."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Protocol(StrEnum):
    """UNSUPPORTED is Istio's word for a port that declares nothing: it may speak HTTP or any other TCP protocol."""

    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    HTTPS = "https"
    TLS = "tls"
    TCP = "tcp"
    MONGO = "mongo"
    MYSQL = "mysql"
    REDIS = "redis"
    UDP = "udp"
    UNSUPPORTED = "unsupported"

    @property
    def is_http(self) -> bool:
        """Whether requests can be read off the wire as they are."""
        return self in _HTTP

    @property
    def is_http2(self) -> bool:
        return self in _HTTP2

    @property
    def is_tcp(self) -> bool:
        """Whether the mesh forwards bytes only."""
        return self not in _HTTP and self is not Protocol.UDP


_HTTP: Final = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB})
_HTTP2: Final = frozenset({Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB})
_KUBERNETES: Final = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}
_SERVER_FIRST: Final = frozenset({25, 53, 3306, 27017})
"""Istio's well-known ports (SMTP, DNS, MySQL, MongoDB), where waiting for the client's first bytes would be in vain."""
_BY_NAME: Final = {protocol.value: protocol for protocol in Protocol if protocol is not Protocol.UNSUPPORTED}


def protocol_of(name: str, app_protocol: str | None = None, transport: str = "TCP", number: int = 0) -> Protocol:
    """Istio's rule: UDP by transport; then `appProtocol`; then `<protocol>[-<suffix>]` of the port name.

    Where none of them says anything, a few well-known numbers mean TCP.
    """
    found = _declared(name, app_protocol, transport)
    return Protocol.TCP if found is Protocol.UNSUPPORTED and number in _SERVER_FIRST else found


def _declared(name: str, app_protocol: str | None, transport: str) -> Protocol:
    if transport != "TCP":
        return Protocol.UDP
    if app_protocol:
        wanted = app_protocol.lower()
        return _KUBERNETES.get(wanted, _BY_NAME.get(wanted, Protocol.UNSUPPORTED))
    lowered = name.lower()
    if lowered == "grpc-web" or lowered.startswith("grpc-web-"):
        return Protocol.GRPC_WEB
    return _BY_NAME.get(lowered.partition("-")[0], Protocol.UNSUPPORTED)
