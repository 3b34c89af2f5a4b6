"""Gateway: Istio's ValidateGateway."""

from __future__ import annotations

from mesh.api.gateway import Gateway, Port, Server, ServerTLSMode, ServerTLSSettings, TLSCertificate
from mesh.config.rules.checks import Place, check_host, check_labels, check_port, is_address, is_dns_label

_HTTP = {"HTTP", "HTTP2", "GRPC", "GRPC-WEB"}
_TLS = {"HTTPS", "TLS"}
PROTOCOLS = (*sorted(_HTTP), *sorted(_TLS), "TCP", "MONGO", "REDIS", "MYSQL")
_TERMINATING = (ServerTLSMode.SIMPLE, ServerTLSMode.MUTUAL, ServerTLSMode.OPTIONAL_MUTUAL)


def check_gateway(resource: Gateway, at: Place) -> None:
    """`at` is the place of `spec`."""
    if not is_dns_label(resource.name):
        Place(at.problems, ("metadata", "name")).refuse("a Gateway's name must not hold dots")
    if not resource.spec.servers:
        at.refuse("must have at least one server")
    check_labels(resource.spec.selector, at / "selector")
    seen: set[str] = set()
    for index, server in enumerate(resource.spec.servers):
        place = at / "servers" / index
        _check_server(server, place)
        if server.port is not None and server.port.name and server.port.name in seen:
            (place / "port" / "name").refuse(f'the port name "{server.port.name}" is given twice')
        seen.add(server.port.name if server.port else "")


def _check_server(server: Server, at: Place) -> None:
    if not server.hosts:
        at.refuse("must have at least one host")
    for index, host in enumerate(server.hosts):
        _check_host(host, at / "hosts" / index)
    if server.tls is not None and not server.tls.https_redirect:
        _check_server_names(server.hosts, at / "hosts")
    if server.bind and not is_address(server.bind):
        (at / "bind").refuse(f'"{server.bind}" is not an IP address')
    _check_tls(server.tls, at / "tls")
    if server.port is None:
        at.refuse("must have a port")
    else:
        _check_port(server.port, at / "port")
        _check_tls_fits(server.port.protocol.upper(), server.tls, at)


def _check_host(host: str, at: Place) -> None:
    namespace, slash, name = host.rpartition("/")
    if slash and namespace not in ("*", ".") and not is_dns_label(namespace):
        at.refuse(f'"{namespace}" is not a namespace, "." or "*"')
    if not is_address(name):
        check_host(name, at)


def _check_server_names(hosts: tuple[str, ...], at: Place) -> None:
    for index, host in enumerate(hosts):
        name = host.rpartition("/")[2]
        if name.startswith("*") and name != "*" and not name.startswith("*."):
            (at / index).refuse(f'"{name}": TLS knows wildcards of whole labels alone, such as *.example.com')


def _check_port(port: Port, at: Place) -> None:
    check_port(port.number, at / "number")
    if port.protocol.upper() not in PROTOCOLS:
        (at / "protocol").refuse(f'"{port.protocol}" is not one of {", ".join(PROTOCOLS)}')
    if not port.name:
        at.refuse("must have a name")
    if port.target_port:
        (at / "targetPort").refuse("has no effect on a Gateway; leave it out")


def _check_tls_fits(protocol: str, tls: ServerTLSSettings | None, at: Place) -> None:
    if protocol in _TLS and tls is None:
        at.refuse(f"{protocol} needs tls settings")
    elif protocol not in _TLS and tls is not None:
        only_redirect = tls == ServerTLSSettings(https_redirect=tls.https_redirect)
        if protocol not in _HTTP or not only_redirect:
            (at / "tls").refuse(f"{protocol} is not encrypted; only httpsRedirect may be set here, on HTTP ports")


def _check_tls(tls: ServerTLSSettings | None, at: Place) -> None:
    if tls is None:
        return
    sources = {
        "serverCertificate": bool(tls.server_certificate or tls.private_key),
        "credentialName": bool(tls.credential_name),
        "credentialNames": bool(tls.credential_names),
        "tlsCertificates": bool(tls.tls_certificates),
    }
    given = [name for name, present in sources.items() if present]
    if tls.mode is ServerTLSMode.ISTIO_MUTUAL:
        for name in given + ["caCertificates"] * bool(tls.ca_certificates):
            (at / name).refuse("must be left out with ISTIO_MUTUAL, whose certificates the mesh provides")
        return
    if len(given) > 1:
        at.refuse(f"only one of {', '.join(given)} may be set")
    if tls.mode in _TERMINATING and not (tls.credential_name or tls.credential_names):
        _check_files(tls, at)
    if tls.ca_crl and tls.credential_name:
        (at / "caCrl").refuse("must be in the credential when credentialName is set")
    if tls.ca_crl and tls.mode is ServerTLSMode.SIMPLE:
        (at / "caCrl").refuse("SIMPLE asks for no client certificate, so there is nothing to revoke")


def _check_files(tls: ServerTLSSettings, at: Place) -> None:
    if tls.mode is not ServerTLSMode.SIMPLE and not tls.ca_certificates:
        at.refuse(f"{tls.mode} needs caCertificates to verify clients")
    own = TLSCertificate(server_certificate=tls.server_certificate, private_key=tls.private_key)
    for certificate in tls.tls_certificates or (own,):
        if not certificate.server_certificate:
            at.refuse(f"{tls.mode} needs serverCertificate or credentialName")
        if not certificate.private_key:
            at.refuse(f"{tls.mode} needs privateKey or credentialName")
