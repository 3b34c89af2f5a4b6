"""From HttpConnectionManager to what marks where a request came from, and to where logs find the client's address."""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3.base_pb2 import Node
from envoy.extensions.http.original_ip_detection.custom_header.v3.custom_header_pb2 import CustomHeaderConfig
from envoy.extensions.http.original_ip_detection.xff.v3.xff_pb2 import XffConfig

from mesh.proxy.fields import Place, check
from mesh.proxy.http import client_certificates, origin
from mesh.proxy.http.config import ClientAddress
from mesh.proxy.http.origin import Mark

_D = "envoy.extensions.http.original_ip_detection."
SUPPORTED = {
    _D + "xff.v3.XffConfig": frozenset(("xff_num_trusted_hops", "skip_xff_append")),
    _D + "custom_header.v3.CustomHeaderConfig": frozenset(("header_name",)),
}
SANITIZE, FORWARD_ONLY, APPEND_FORWARD, SANITIZE_SET, ALWAYS_FORWARD_ONLY = range(5)  # ForwardClientCertDetails


def compile_origin(config: Any, node: Node, place: Place) -> Mark:
    """What every request's head goes through. Raises Refused."""
    marks: list[Mark] = []
    overwrites = config.scheme_header_transformation.scheme_to_overwrite
    if config.use_remote_address.value:
        marks.append(
            origin.edge(
                hops=config.xff_num_trusted_hops,
                appends=not config.skip_xff_append,
                appends_port=config.append_x_forwarded_port,
            )
        )
        if config.xff_num_trusted_hops and not overwrites:
            marks.append(origin.want_scheme)
    else:
        if _detected(config, place)[1]:
            marks.append(origin.append_address)
        if not overwrites:
            marks.append(origin.mark_scheme)
    if overwrites:
        marks.append(origin.with_scheme(overwrites.encode()))
    if config.add_user_agent.value:
        marks.append(origin.with_user_agent(node.cluster.encode(), node.id.encode()))
    mode = config.forward_client_cert_details
    if mode == FORWARD_ONLY:
        marks.append(client_certificates.forward_only)
    elif mode in (APPEND_FORWARD, SANITIZE_SET):
        details = config.set_current_client_cert_details
        names = frozenset(field.name for field, value in details.ListFields() if getattr(value, "value", value))
        marks.append(client_certificates.tell(appends=mode == APPEND_FORWARD, details=names))
    if config.via:
        marks.append(origin.with_via(config.via.encode()))
    return origin.all_of(marks)


def client_address(config: Any, place: Place) -> ClientAddress:
    """Where logs and filters find it. Raises Refused."""
    if not config.use_remote_address.value:
        return _detected(config, place)[0]
    hops = config.xff_num_trusted_hops
    # By the time that somebody asks, this proxy has appended its own entry.
    return ClientAddress(place=hops + (not config.skip_xff_append) if hops else 0)


def _detected(config: Any, place: Place) -> tuple[ClientAddress, bool]:
    """And whether x-forwarded-for is appended to all the same."""
    extensions = config.original_ip_detection_extensions
    if not extensions:
        return ClientAddress(place=config.xff_num_trusted_hops + 1), False
    inside = place.at("original_ip_detection_extensions[0]")
    if len(extensions) > 1:
        raise inside.refuse("more than one extension is not supported by this sidecar")
    packed = extensions[0].typed_config
    if packed.Is(XffConfig.DESCRIPTOR):
        xff = XffConfig()
        packed.Unpack(xff)
        check(xff, SUPPORTED, inside)
        appends = xff.HasField("skip_xff_append") and not xff.skip_xff_append.value
        return ClientAddress(place=xff.xff_num_trusted_hops + 1 + appends), appends
    custom = CustomHeaderConfig()
    if not packed.Unpack(custom):
        raise inside.refuse(f"{extensions[0].name} is not supported by this sidecar")
    check(custom, SUPPORTED, inside)
    return ClientAddress(header=custom.header_name.lower().encode()), False
