"""Every field of Envoy's API that the compiler's tables leave out is refused by the compiler, by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap, ClusterManager, LayeredRuntime
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Node, TransportSocket
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_components_pb2 import ListenerFilter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.metrics.v3.stats_pb2 import StatsConfig, StatsSink
from envoy.config.overload.v3.overload_pb2 import OverloadManager
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.config.trace.v3.opentelemetry_pb2 import OpenTelemetryConfig
from envoy.config.trace.v3.zipkin_pb2 import ZipkinConfig
from envoy.extensions.access_loggers.grpc.v3.als_pb2 import TcpGrpcAccessLogConfig
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    LocalReplyConfig,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mesh.proxy.compile.bind_config import compile_bind_config
from mesh.proxy.compile.clusters import compile_cluster
from mesh.proxy.compile.endpoints import compile_endpoints
from mesh.proxy.compile.limits import compile_limits
from mesh.proxy.compile.listeners import compile_listener
from mesh.proxy.compile.rbac import HTTP, compile_rules
from mesh.proxy.compile.routes import compile_routes
from mesh.proxy.compile.stats_config import compile_view
from mesh.proxy.compile.stats_sinks import compile_sinks
from mesh.proxy.compile.tls import check_secret
from mesh.proxy.fields import OPAQUE, Place
from mesh.proxy.filters.registry import FILTERS_OF_CHAINS, FILTERS_OF_ROUTES
from mesh.proxy.observe.access_log import LogFiles
from mesh.proxy.observe.stats import Stats
from mesh.proxy.resources import Refused
from mesh.proxy.supported import Table, children, descriptor, page, tables

Compile = Callable[[Any], object]
Path_ = tuple[str, ...]


def listener(message: Listener) -> object:
    with closing(asyncio.new_event_loop()) as loop, closing(LogFiles(loop, print)) as files:
        return compile_listener(message, Node(id="n"), Stats(), files, Place("Listener", "l"))


def in_listener(put: Callable[[Listener, Message], None]) -> Compile:
    def compile_it(message: Message) -> object:
        whole = Listener(name="l")
        whole.address.socket_address.address = "127.0.0.1"
        put(whole, message)
        return listener(whole)

    return compile_it


def network_filter(whole: Listener, message: Message) -> None:
    filters = whole.filter_chains.add().filters
    filters.add(name="f").typed_config.Pack(message)
    if not isinstance(message, (HttpConnectionManager, TcpProxy)):
        filters.add(name="last").typed_config.Pack(TcpProxy(stat_prefix="t", cluster="c"))


def listener_filter(whole: Listener, message: Message) -> None:
    whole.listener_filters.add(name="f").typed_config.Pack(message)
    network_filter(whole, TcpProxy(stat_prefix="t", cluster="c"))


def whole_listener_filter(whole: Listener, message: Any) -> None:
    whole.listener_filters.append(message)
    network_filter(whole, TcpProxy(stat_prefix="t", cluster="c"))


def connection_manager() -> HttpConnectionManager:
    http = HttpConnectionManager(stat_prefix="t")
    http.route_config.name = "r"
    return http


def manager(edit: Callable[[HttpConnectionManager, Message], None]) -> Compile:
    def put(whole: Listener, message: Message) -> None:
        http = connection_manager()
        edit(http, message)
        http.http_filters.add(name="router").typed_config.Pack(Router())
        network_filter(whole, http)

    return in_listener(put)


def http_filter(http: HttpConnectionManager, message: Message) -> None:
    http.http_filters.add(name="f").typed_config.Pack(message)


def access_log(http: HttpConnectionManager, message: Message) -> None:
    http.access_log.add(name="f").typed_config.Pack(message)


def tcp_access_log(whole: Listener, message: Message) -> None:
    proxy = TcpProxy(stat_prefix="t", cluster="c")
    proxy.access_log.add(name="f").typed_config.Pack(message)
    network_filter(whole, proxy)


def whole_access_log(http: HttpConnectionManager, message: Any) -> None:
    http.access_log.append(message)


def in_bootstrap(put: Callable[[Bootstrap, Message], None]) -> Compile:
    def compile_it(message: Message) -> object:
        whole = Bootstrap()
        put(whole, message)
        return compile_limits(whole, Place("Bootstrap", "b"))

    return compile_it


def overload(whole: Bootstrap, message: Any) -> None:
    whole.overload_manager.CopyFrom(message)


def runtime(whole: Bootstrap, message: Any) -> None:
    whole.layered_runtime.CopyFrom(message)


def resource_monitor(whole: Bootstrap, message: Message) -> None:
    whole.overload_manager.resource_monitors.add(name="m").typed_config.Pack(message)


def ip_detection(http: HttpConnectionManager, message: Message) -> None:
    http.original_ip_detection_extensions.add(name="x").typed_config.Pack(message)


def whole_stats_sink(message: Message) -> object:
    whole = Bootstrap()
    whole.stats_sinks.add().MergeFrom(message)
    return compile_sinks(whole)


def stats_sink(message: Message) -> object:
    sink = StatsSink(name="s")
    sink.typed_config.Pack(message)
    return whole_stats_sink(sink)


def tracing(http: HttpConnectionManager, message: Any) -> None:
    http.tracing.CopyFrom(message)
    if not message.HasField("provider"):
        http.tracing.provider.typed_config.Pack(ZipkinConfig(collector_cluster="c", collector_endpoint="/"))


def tracer(http: HttpConnectionManager, message: Message) -> None:
    http.tracing.provider.typed_config.Pack(message)


def resource_detector(http: HttpConnectionManager, message: Message) -> None:
    config = OpenTelemetryConfig()
    config.http_service.http_uri.cluster = "c"
    config.resource_detectors.add(name="d").typed_config.Pack(message)
    tracer(http, config)


def request_id(http: HttpConnectionManager, message: Message) -> None:
    http.request_id_extension.typed_config.Pack(message)


def header_formatter(http: HttpConnectionManager, message: Message) -> None:
    formatter = http.http_protocol_options.header_key_format.stateful_formatter
    formatter.name = "f"
    formatter.typed_config.Pack(message)


def local_replies(http: HttpConnectionManager, message: Any) -> None:
    http.local_reply_config.CopyFrom(message)


def transport_socket(whole: Cluster, message: Any) -> None:
    whole.transport_socket.CopyFrom(message)


def server_socket(whole: Listener, message: Message) -> None:
    network_filter(whole, TcpProxy(stat_prefix="t", cluster="c"))
    whole.filter_chains[0].transport_socket.name = "tls"
    whole.filter_chains[0].transport_socket.typed_config.Pack(message)


def in_cluster(put: Callable[[Cluster, Message], None]) -> Compile:
    def compile_it(message: Message) -> object:
        whole = Cluster(name="c")
        put(whole, message)
        return compile_cluster(whole, Place("Cluster", "c"))

    return compile_it


def client_socket(whole: Cluster, message: Message) -> None:
    whole.transport_socket.name = "tls"
    whole.transport_socket.typed_config.Pack(message)


def protocol_options(whole: Cluster, message: Message) -> None:
    whole.typed_extension_protocol_options[message.DESCRIPTOR.full_name].Pack(message)


def balancing(whole: Cluster, message: Message) -> None:
    whole.load_balancing_policy.policies.add().typed_extension_config.typed_config.Pack(message)


def of_route(message: Message) -> object:
    """What a route says of a filter."""
    whole = RouteConfiguration(name="r")
    host = whole.virtual_hosts.add(name="v", domains=["*"])
    host.typed_per_filter_config["f"].Pack(message)
    return compile_routes(whole, Place("RouteConfiguration", "r"))


# How the compiler is handed each kind of message: by full name, or by what it begins with.
HANDED: dict[str, Compile] = {
    Listener.DESCRIPTOR.full_name: listener,
    RouteConfiguration.DESCRIPTOR.full_name: lambda m: compile_routes(m, Place("RouteConfiguration", "r")),
    Cluster.DESCRIPTOR.full_name: lambda m: compile_cluster(m, Place("Cluster", "c")),
    ClusterLoadAssignment.DESCRIPTOR.full_name: lambda m: compile_endpoints(m, Place("ClusterLoadAssignment", "e")),
    Secret.DESCRIPTOR.full_name: lambda m: check_secret(m, Place("Secret", "s")),
    AccessLog.DESCRIPTOR.full_name: manager(whole_access_log),
    TransportSocket.DESCRIPTOR.full_name: in_cluster(transport_socket),
    ListenerFilter.DESCRIPTOR.full_name: in_listener(whole_listener_filter),
    "envoy.config.rbac.v3.RBAC": lambda m: compile_rules(m, HTTP, Place("Listener", "l")),
    **dict.fromkeys(FILTERS_OF_ROUTES.keys() - FILTERS_OF_CHAINS.keys(), of_route),
    HttpConnectionManager.Tracing.DESCRIPTOR.full_name: manager(tracing),
    "envoy.config.trace.v3.": manager(tracer),
    "envoy.extensions.tracers.opentelemetry.resource_detectors.": manager(resource_detector),
    "envoy.extensions.request_id.": manager(request_id),
    LocalReplyConfig.DESCRIPTOR.full_name: manager(local_replies),
    StatsConfig.DESCRIPTOR.full_name: lambda m: compile_view(m, Place("Bootstrap", "b")),
    StatsSink.DESCRIPTOR.full_name: whole_stats_sink,
    ClusterManager.DESCRIPTOR.full_name: lambda m: compile_bind_config(m, Place("Bootstrap", "b")),
    "envoy.config.metrics.v3.": stats_sink,
    "envoy.extensions.stat_sinks.": stats_sink,
    "envoy.extensions.filters.network.": in_listener(network_filter),
    "envoy.extensions.filters.listener.": in_listener(listener_filter),
    "envoy.extensions.filters.http.": manager(http_filter),
    "envoy.extensions.http.header_formatters.": manager(header_formatter),
    "envoy.extensions.http.original_ip_detection.": manager(ip_detection),
    OverloadManager.DESCRIPTOR.full_name: in_bootstrap(overload),
    LayeredRuntime.DESCRIPTOR.full_name: in_bootstrap(runtime),
    "envoy.extensions.resource_monitors.": in_bootstrap(resource_monitor),
    TcpGrpcAccessLogConfig.DESCRIPTOR.full_name: in_listener(tcp_access_log),
    "envoy.extensions.access_loggers.": manager(access_log),
    "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext": in_listener(server_socket),
    "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext": in_cluster(client_socket),
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": in_cluster(protocol_options),
    "envoy.extensions.load_balancing_policies.": in_cluster(balancing),
}


def handed(root: Descriptor) -> Compile | None:
    for name, compile_it in HANDED.items():
        if root.full_name == name or (name.endswith(".") and root.full_name.startswith(name)):
            return compile_it
    return None


def places(table: Table, root: Descriptor) -> Iterator[tuple[Path_, Descriptor]]:
    """The messages of the table within `root`, each once, with the fields that lead there."""
    seen = {root.full_name}
    ahead: list[tuple[Path_, Descriptor]] = [((), root)]
    while ahead:
        path, message = ahead.pop(0)
        fields = table.messages.get(message.full_name, frozenset())
        if fields is OPAQUE:
            continue
        yield path, message
        for field, child in children(message, fields):
            if child.full_name not in seen and child.full_name in table.messages:
                seen.add(child.full_name)
                ahead.append(((*path, field), child))


CASES = [
    pytest.param(table, root, path, message, id=f"{root.name}-{'.'.join(path) or 'itself'}")
    for table in tables()
    for root in table.roots()
    if handed(root) is not None
    for path, message in places(table, root)
]


def step(message: Any, name: str) -> Any:
    """The message in a field, made if it is not there: the only element of a list or map."""
    field = message.DESCRIPTOR.fields_by_name[name]
    held = getattr(message, name)
    if field.message_type.GetOptions().map_entry:
        return held["key"]
    if not isinstance(held, Message):
        return held[0] if len(held) else held.add()
    held.SetInParent()
    return held


def put_something(message: Any, field: FieldDescriptor) -> None:
    """Give a field a value that is not its default."""
    kind = field.message_type
    held = getattr(message, field.name)
    if kind is not None and kind.GetOptions().map_entry:
        value = kind.fields_by_name["value"]
        if value.message_type is not None:
            held["key"].SetInParent()
        else:
            held["key"] = scalar(value)
    elif kind is not None and isinstance(held, Message):
        held.SetInParent()
    elif kind is not None:
        held.add()
    elif hasattr(held, "append"):
        held.append(scalar(field))
    else:
        setattr(message, field.name, scalar(field))


def scalar(field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    return {str: "x", bytes: b"x", float: 1.0, int: 1, bool: True}[_python_type(field)]


def _python_type(field: FieldDescriptor) -> type:
    return {
        FieldDescriptor.CPPTYPE_STRING: bytes if field.type == FieldDescriptor.TYPE_BYTES else str,
        FieldDescriptor.CPPTYPE_BOOL: bool,
        FieldDescriptor.CPPTYPE_DOUBLE: float,
        FieldDescriptor.CPPTYPE_FLOAT: float,
    }.get(field.cpp_type, int)


@pytest.mark.parametrize(("table", "root", "path", "message"), CASES)
def test_a_field_outside_the_table_is_refused_by_name(
    table: Table, root: Descriptor, path: Path_, message: Descriptor
) -> None:
    compile_it = handed(root)
    assert compile_it is not None
    for field in message.fields:
        if field.name in table.messages.get(message.full_name, frozenset()):
            continue
        whole = GetMessageClass(root)()
        at = whole
        for name in path:
            at = step(at, name)
        put_something(at, field)
        with pytest.raises(Refused) as refused:
            compile_it(whole)
        assert field.name in refused.value.field_path.rpartition(".")[2], str(refused.value)


def test_every_message_of_every_table_is_handed_to_the_compiler() -> None:
    covered = {
        message.full_name
        for table in tables()
        for root in table.roots()
        if handed(root) is not None
        for _, message in places(table, root)
    }
    opaque_or_covered = {
        name for table in tables() for name, fields in table.messages.items() if fields is not OPAQUE
    } - covered
    assert not opaque_or_covered, "name these in HANDED, or drop them from their tables"


def test_every_field_of_every_table_exists() -> None:
    for table in tables():
        for name, fields in table.messages.items():
            unknown = fields - {field.name for field in descriptor(name).fields} - OPAQUE
            assert not unknown, f"{table.module}: {name}"


def test_the_page_is_that_of_the_tables() -> None:
    written = Path(__file__).parents[3] / "docs" / "proxy.md"
    assert written.read_text() == page(), "run: python -m mesh.proxy.supported > docs/proxy.md"
