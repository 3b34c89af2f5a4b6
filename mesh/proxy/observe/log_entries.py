"""Streams and TCP connections as the entries of a gRPC access log (`envoy.data.accesslog.v3`)."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from envoy.config.core.v3.address_pb2 import Address
from envoy.data.accesslog.v3 import accesslog_pb2 as entries
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from mesh.proxy.observe import log_values as values
from mesh.proxy.observe.workload import UNKNOWN, Workload, of_endpoint

if TYPE_CHECKING:
    from mesh.proxy.downstream.tcp import TcpDownstream
    from mesh.proxy.http.stream import Stream
    from mesh.proxy.tls.connection import Peer

_FLAGS = {
    "LH": "failed_local_healthcheck", "UH": "no_healthy_upstream", "UT": "upstream_request_timeout",
    "LR": "local_reset", "UR": "upstream_remote_reset", "UF": "upstream_connection_failure",
    "UC": "upstream_connection_termination", "UO": "upstream_overflow", "NR": "no_route_found",
    "DI": "delay_injected", "FI": "fault_injected", "RL": "rate_limited", "RLSE": "rate_limit_service_error",
    "DC": "downstream_connection_termination", "URX": "upstream_retry_limit_exceeded", "SI": "stream_idle_timeout",
    "IH": "invalid_envoy_request_headers", "DPE": "downstream_protocol_error",
    "UMSDR": "upstream_max_stream_duration_reached", "NFCF": "no_filter_config_found", "DT": "duration_timeout",
    "UPE": "upstream_protocol_error", "NC": "no_cluster_found", "OM": "overload_manager",
    "DF": "dns_resolution_failure",
}  # fmt: skip
_TLS = {"TLSv1": 1, "TLSv1.1": 2, "TLSv1.2": 3, "TLSv1.3": 4}
_PROTOCOLS = {"HTTP/1.0": 1, "HTTP/1.1": 2, "HTTP/2": 3}
_METHODS = {"GET": 1, "HEAD": 2, "POST": 3, "PUT": 4, "DELETE": 5, "CONNECT": 6, "OPTIONS": 7, "TRACE": 8, "PATCH": 9}
_END_TYPE, _TCP_END_TYPE = entries.DownstreamEnd, entries.TcpConnectionEnd


FindWorkload = Callable[[Any], "Workload | None"]
Objects = tuple[tuple[str, FindWorkload], ...]


class Extra:
    """The headers and trailers that an HTTP entry has besides, names in lower case; and the objects of filter state."""

    __slots__ = ("objects", "request", "response", "trailers")

    def __init__(
        self, request: Sequence[str], response: Sequence[str], trailers: Sequence[str], objects: Objects = ()
    ) -> None:
        self.objects = objects
        self.request, self.response, self.trailers = (
            tuple((name.lower(), name.lower().encode()) for name in each) for each in (request, response, trailers)
        )


def http_entry(stream: Stream, extra: Extra) -> entries.HTTPAccessLogEntry:
    entry = entries.HTTPAccessLogEntry(protocol_version=_PROTOCOLS.get(stream.connection.protocol, 0))
    common = entry.common_properties
    connection = stream.connection
    info = connection.info
    assert info is not None
    _common(common, stream, connection.local_address, info.direct_address, connection.peer)
    common.access_log_type = _END_TYPE
    if connection.peer is not None and info.server_name:
        common.tls_properties.tls_sni_hostname = info.server_name
    common.stream_id = _text(stream.head.marked.get(b"x-request-id"))
    if stream.route is not None:
        common.route_name = stream.route.name
    if stream.served_by is not None:
        _address(common.upstream_local_address, stream.served_by.local_address)
    if stream.metadata:
        ParseDict({"filter_metadata": stream.metadata}, common.metadata)
    add_objects(common, stream, extra.objects)
    _times(common, stream)
    _request(entry.request, stream, extra)
    _response(entry.response, stream, extra)
    return entry


def tcp_entry(connection: TcpDownstream, objects: Objects = ()) -> entries.TCPAccessLogEntry:
    entry = entries.TCPAccessLogEntry()
    common, info = entry.common_properties, connection.info
    assert info is not None
    _common(common, connection, connection.local_address, info.direct_address, connection.peer)
    if not hasattr(connection, "log_type"):  # the log of a listener sets none
        common.access_log_type = _TCP_END_TYPE
    if connection.peer is not None and info.server_name:
        common.tls_properties.tls_sni_hostname = info.server_name
    _address(common.upstream_local_address, connection.upstream_local_address)
    common.connection_termination_details = connection.termination or ""
    if info.metadata:
        ParseDict({"filter_metadata": info.metadata}, common.metadata)
    add_objects(common, connection, objects)
    entry.connection_properties.received_bytes = connection.bytes_received
    entry.connection_properties.sent_bytes = connection.bytes_sent
    return entry


def _common(common: Any, subject: Any, local: str, direct: str, peer: Peer | None) -> None:
    _address(common.downstream_remote_address, subject.remote_address)
    _address(common.downstream_direct_remote_address, direct)
    _address(common.downstream_local_address, local)
    if peer is not None:
        _tls(common.tls_properties, peer)
    common.start_time.FromMicroseconds(int(values.wall_start(subject) * 1e6))
    _span(common.duration, subject.elapsed)
    common.upstream_cluster = subject.cluster_name
    if subject.host is not None:
        _address(common.upstream_remote_address, subject.host.address)
    common.upstream_request_attempt_count = subject.attempts
    common.upstream_transport_failure_reason = subject.transport_failure
    if subject.flags:
        for flag in subject.flags.split(","):
            if flag == "UAEX":
                reason = entries.ResponseFlags.Unauthorized.EXTERNAL_SERVICE
                common.response_flags.unauthorized_details.reason = reason
            elif flag in _FLAGS:
                setattr(common.response_flags, _FLAGS[flag], True)


# The objects of Envoy's filter state that this sidecar knows: Istio's workloads on either side, as its proxy names and
# shows them.


def objects_of(names: Sequence[str]) -> Objects:
    """Those of `names` that there may be; the others never are, as with an Envoy whose filters do not set them."""
    return tuple((name, _OBJECTS[name]) for name in names if name in _OBJECTS)


def add_objects(common: Any, subject: Any, objects: Objects) -> None:
    """Those that `subject` has."""
    for name, find in objects:
        workload = find(subject)
        if workload is not None:
            common.filter_state_objects[name].Pack(_struct(workload))


def _upstream_peer(subject: Any) -> Workload | None:
    text = subject.host.endpoint.workload if subject.host is not None else ""
    return of_endpoint(text) if text else None


def _struct(workload: Workload) -> Struct:
    """As Istio's WorkloadMetadataObject is serialised; what is not known is left out."""
    labels = {
        "service.istio.io/canonical-name": workload.canonical_service,
        "service.istio.io/canonical-revision": workload.canonical_revision,
        "app": workload.app,
        "version": workload.version,
    }
    found = {"WORKLOAD_NAME": workload.name, "NAMESPACE": workload.namespace, "CLUSTER_ID": workload.cluster}
    made = Struct()
    made.update({name: value for name, value in found.items() if value != UNKNOWN})
    made.update({"LABELS": {name: value for name, value in labels.items() if value != UNKNOWN}})
    return made


_OBJECTS: Mapping[str, FindWorkload] = {
    "downstream_peer": lambda subject: getattr(subject, "source", None),
    "upstream_peer": _upstream_peer,
}


def _times(common: Any, stream: Stream) -> None:
    answered, end = values.answered_at(stream), stream.started + stream.elapsed
    for field, at in (
        (common.time_to_last_rx_byte, values.received_at(stream)),
        (common.time_to_first_upstream_tx_byte, getattr(stream, "upstream_started", None)),
        (common.time_to_last_upstream_tx_byte, values.forwarded_at(stream)),
        (common.time_to_first_upstream_rx_byte, answered),
        (common.time_to_last_upstream_rx_byte, None if answered is None else end),
        (common.time_to_first_downstream_tx_byte, answered or end),
        (common.time_to_last_downstream_tx_byte, end),
    ):
        if at is not None:
            _span(field, at - stream.started)


def _request(request: Any, stream: Stream, extra: Extra) -> None:
    head = stream.head
    marked = head.marked
    request.request_method = _METHODS.get(head.method.decode("latin-1"), 0)
    request.scheme = _text(head.scheme)
    request.authority = _text(head.authority)
    request.path = _text(head.target)
    request.user_agent = _text(marked.get(b"user-agent"))
    request.referer = _text(head.get(b"referer"))
    request.forwarded_for = _text(marked.get(b"x-forwarded-for"))
    request.request_id = _text(marked.get(b"x-request-id"))
    request.original_path = _text(marked.get(b"x-envoy-original-path"))
    request.request_body_bytes = stream.bytes_received
    _headers(request.request_headers, head, extra.request)


def _response(response: Any, stream: Stream, extra: Extra) -> None:
    if stream.status:
        response.response_code.value = stream.status
    response.response_code_details = stream.details
    response.response_body_bytes = stream.bytes_sent
    if stream.response_head is not None:
        _headers(response.response_headers, stream.response_head, extra.response)
    if stream.response_trailers is not None:
        _headers(response.response_trailers, stream.response_trailers, extra.trailers)


def _headers(into: Any, head: Any, names: Sequence[tuple[str, bytes]]) -> None:
    for name, key in names:
        value = head.get(key)
        if value is not None:
            into[name] = _text(value)


def _tls(properties: Any, peer: Peer) -> None:
    properties.tls_version = _TLS.get(peer.version, 0)
    number = _ciphers().get(peer.cipher)
    if number is not None:
        properties.tls_cipher_suite.value = number
    certificate = properties.peer_certificate_properties
    certificate.subject = peer.subject
    certificate.issuer = values.issuer(peer) or ""
    for uri in peer.uri_sans:
        certificate.subject_alt_name.add(uri=uri)
    for name in peer.dns_sans:
        certificate.subject_alt_name.add(dns=name)


@cache
def _ciphers() -> dict[str, int]:
    """The numbers of cipher suites by OpenSSL's names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL")
    return {each["name"]: each["id"] & 0xFFFF for each in context.get_ciphers()}


def _address(into: Address, address: str | None) -> None:
    if address:
        ip, _, port = address.rpartition(":")
        into.socket_address.address = ip.strip("[]")
        into.socket_address.port_value = int(port)


def _span(into: Duration, seconds: float) -> None:
    into.FromMicroseconds(max(0, int(seconds * 1e6)))


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")
