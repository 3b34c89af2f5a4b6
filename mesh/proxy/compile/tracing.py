"""Tracing of a connection manager and of routes: sampling, custom tags and the provider, as steps of streams."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mesh.proxy.compile.values import seconds_or, unpack, value_or
from mesh.proxy.fields import Place, check
from mesh.proxy.filters.steps import Steps
from mesh.proxy.observe.counters import OpenTelemetryStats, ZipkinStats
from mesh.proxy.observe.downstream_counters import HttpStats
from mesh.proxy.observe.tracing.decision import PARTS, RequestIds, Sampling
from mesh.proxy.observe.tracing.tracer import CustomTag, RouteTracing, Tracer
from mesh.proxy.upstream.local_address import local_ip
from mesh.proxy.version import version

if TYPE_CHECKING:
    from mesh.proxy.compile.http import Surroundings
    from mesh.proxy.http.stream import Stream
    from mesh.proxy.observe.tracing.span import Provider

_H = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager."
_T = "envoy.config.trace.v3."
_C = "envoy.type.tracing.v3.CustomTag"
ZIPKIN, OPENTELEMETRY = _T + "ZipkinConfig", _T + "OpenTelemetryConfig"
_ENVIRONMENT = "envoy.extensions.tracers.opentelemetry.resource_detectors.v3.EnvironmentResourceDetectorConfig"
_STATIC = "envoy.extensions.tracers.opentelemetry.resource_detectors.v3.StaticConfigResourceDetectorConfig"
_TAGS: Mapping[str, frozenset[str]] = {
    _C: frozenset(("tag", "literal", "environment", "request_header", "metadata")),
    _C + ".Literal": frozenset(("value",)),
    _C + ".Environment": frozenset(("name", "default_value")),
    _C + ".Header": frozenset(("name", "default_value")),
    _C + ".Metadata": frozenset(("kind", "metadata_key", "default_value")),
    "envoy.type.metadata.v3.MetadataKind": frozenset(("request", "cluster", "host")),
    "envoy.type.metadata.v3.MetadataKind.Request": frozenset(),
    "envoy.type.metadata.v3.MetadataKind.Cluster": frozenset(),
    "envoy.type.metadata.v3.MetadataKind.Host": frozenset(),
    "envoy.type.metadata.v3.MetadataKey": frozenset(("key", "path")),
    "envoy.type.metadata.v3.MetadataKey.PathSegment": frozenset(("key",)),
}
SUPPORTED: Mapping[str, frozenset[str]] = {
    _H + "Tracing": frozenset(
        ("client_sampling", "random_sampling", "overall_sampling", "max_path_tag_length", "custom_tags", "provider",
         "spawn_upstream_span")
    ),
    "envoy.type.v3.Percent": frozenset(("value",)),
    _T + "Tracing.Http": frozenset(("name", "typed_config")),
    ZIPKIN: frozenset(
        ("collector_cluster", "collector_endpoint", "collector_endpoint_version", "collector_hostname",
         "trace_id_128bit", "shared_span_context", "trace_context_option")
    ),
    OPENTELEMETRY: frozenset(("grpc_service", "http_service", "service_name", "resource_detectors")),
    "envoy.config.core.v3.GrpcService": frozenset(("envoy_grpc", "timeout", "initial_metadata")),
    "envoy.config.core.v3.GrpcService.EnvoyGrpc": frozenset(("cluster_name", "authority")),
    "envoy.config.core.v3.HttpService": frozenset(("http_uri", "request_headers_to_add")),
    "envoy.config.core.v3.HttpUri": frozenset(("uri", "cluster", "timeout")),
    "envoy.config.core.v3.HeaderValueOption": frozenset(("header",)),
    "envoy.config.core.v3.HeaderValue": frozenset(("key", "value")),
    "envoy.config.core.v3.TypedExtensionConfig": frozenset(("name", "typed_config")),
    _ENVIRONMENT: frozenset(),
    _STATIC: frozenset(("attributes",)),
    "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig": frozenset(
        ("pack_trace_reason", "use_request_id_for_trace_sampling")
    ),
    **_TAGS,
}  # fmt: skip
ROUTE_SUPPORTED: Mapping[str, frozenset[str]] = {
    "envoy.config.route.v3.Decorator": frozenset(("operation", "propagate")),
    "envoy.config.route.v3.Tracing": frozenset(
        ("client_sampling", "random_sampling", "overall_sampling", "custom_tags")
    ),
    **_TAGS,
}
_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_ONLY_HTTP_JSON = 1
_WITH_W3C = 1


def steps(config: Any, around: Surroundings, stats: HttpStats, place: Place) -> tuple[tuple[Steps, ...], ...]:
    """(what goes before the filters, what after them) of an HttpConnectionManager; both empty without tracing.

    Raises Refused.
    """
    ids = _request_ids(config, place)
    if not config.HasField("tracing"):
        return (), ()
    tracing, inside = config.tracing, place.at("tracing")
    check(tracing, SUPPORTED, inside)
    if not tracing.HasField("provider"):
        raise inside.refuse("a provider is required: the bootstrap's `tracing` is not supported", "provider")
    tracer = Tracer(
        _provider(tracing.provider, around, inside.at("provider.typed_config")),
        ids,
        _sampling(tracing),
        _custom_tags(tracing.custom_tags, inside),
        stats,
        is_client=around.is_outbound,
        max_path=value_or(tracing, "max_path_tag_length", 256),
        own_span_upstream=tracing.spawn_upstream_span.value,
    )
    first = Steps(request=[tracer.begin], response=[tracer.answered], finish=[tracer.finish])
    return (first,), (Steps(request=[tracer.propagate]),)


def route_tracing(route: Any, place: Place) -> RouteTracing | None:
    """Decorator and tracing of a Route whose fields have been checked. Raises Refused."""
    if not route.HasField("decorator") and not route.HasField("tracing"):
        return None
    sampling, tags = None, None
    if route.HasField("tracing"):
        sampling = Sampling(*(_share(route.tracing, name) for name in _SAMPLINGS))
        if route.tracing.custom_tags:
            tags = _custom_tags(route.tracing.custom_tags, place.at("tracing"))
    return RouteTracing(route.decorator.operation, value_or(route.decorator, "propagate", True), sampling, tags)


_SAMPLINGS = ("client_sampling", "random_sampling", "overall_sampling")


def _share(config: Any, name: str) -> int:
    """A FractionalPercent in 10,000ths; all where it is not set."""
    if not config.HasField(name):
        return PARTS
    share = getattr(config, name)
    return int(share.numerator * {0: 100, 1: 1, 2: 0.01}[share.denominator])


def _sampling(config: Any) -> Sampling:
    values = (getattr(config, name).value if config.HasField(name) else 100.0 for name in _SAMPLINGS)
    return Sampling(*(int(value * 100) for value in values))


def _request_ids(config: Any, place: Place) -> RequestIds:
    from envoy.extensions.request_id.uuid.v3.uuid_pb2 import UuidRequestIdConfig  # noqa: PLC0415 - few name it

    if not config.request_id_extension.HasField("typed_config"):
        return RequestIds()
    inside = place.at("request_id_extension.typed_config")
    uuid = unpack(config.request_id_extension.typed_config, UuidRequestIdConfig, inside)
    check(uuid, SUPPORTED, inside)
    return RequestIds(
        value_or(uuid, "pack_trace_reason", True), value_or(uuid, "use_request_id_for_trace_sampling", True)
    )


# Custom tags


def _custom_tags(configs: Iterable[Any], place: Place) -> tuple[CustomTag, ...]:
    return tuple(_custom_tag(config, place.at(f"custom_tags[{index}]")) for index, config in enumerate(configs))


def _custom_tag(config: Any, place: Place) -> CustomTag:
    name, kind = config.tag, config.WhichOneof("type")
    if kind == "literal":
        constant = (name, config.literal.value)
        return lambda stream: constant
    if kind == "environment":
        value = os.environ.get(config.environment.name, config.environment.default_value)
        found = (name, value) if value else None
        return lambda stream: found
    if kind == "request_header":
        key, default = config.request_header.name.lower().encode(), config.request_header.default_value

        def header(stream: Stream) -> tuple[str, str] | None:
            value = stream.head.get(key)
            text = default if value is None else value.decode("utf-8", "replace")
            return (name, text) if text else None

        return header
    if kind == "metadata":
        return _metadata_tag(name, config.metadata, place.at("metadata"))
    raise place.refuse("a type is required")


def _metadata_tag(name: str, config: Any, place: Place) -> CustomTag:
    from json import dumps  # noqa: PLC0415 - only a configuration with such a tag needs it

    from mesh.proxy.observe.log_values import cluster_metadata, dynamic_metadata, endpoint_metadata  # noqa: PLC0415

    path = [config.metadata_key.key, *(segment.key for segment in config.metadata_key.path)]
    find: Callable[[Stream], Any]
    kind = config.kind.WhichOneof("kind")
    if kind == "cluster":
        find = cluster_metadata(path)
    elif kind == "host":
        find = lambda stream: endpoint_metadata(stream, path)  # noqa: E731
    elif kind == "request":
        find = lambda stream: dynamic_metadata(stream, path)  # noqa: E731
    else:
        raise place.refuse("not supported by this sidecar", "kind")
    default = config.default_value

    def tag(stream: Stream) -> tuple[str, str] | None:
        value = find(stream)
        if value is None:
            return (name, default) if default else None
        return name, value if isinstance(value, str) else dumps(value, separators=(",", ":"))

    return tag


# Providers


def _provider(config: Any, around: Surroundings, place: Place) -> Provider:
    kind = config.typed_config.TypeName()
    if kind == ZIPKIN:
        return _zipkin(config.typed_config, around, place)
    if kind == OPENTELEMETRY:
        return _opentelemetry(config.typed_config, around, place)
    raise place.refuse(f"tracer {config.name} ({kind or 'no typed_config'}) is not supported by this sidecar")


def _zipkin(packed: Any, around: Surroundings, place: Place) -> Provider:
    # Loaded here, like all of a provider: who traces nothing is not to pay for it.
    from envoy.config.trace.v3.zipkin_pb2 import ZipkinConfig  # noqa: PLC0415

    from mesh.proxy.observe.tracing.reporter import Collector, Reporter  # noqa: PLC0415
    from mesh.proxy.observe.tracing.zipkin import Zipkin, joined  # noqa: PLC0415

    config = unpack(packed, ZipkinConfig, place)
    check(config, SUPPORTED, place)
    if config.collector_endpoint_version != _ONLY_HTTP_JSON:
        raise place.refuse("only HTTP_JSON is supported by this sidecar", "collector_endpoint_version")
    for field in ("collector_cluster", "collector_endpoint"):
        if not getattr(config, field):
            raise place.refuse("required", field)
    headers = ((b"content-type", b"application/json"),)
    host = config.collector_hostname or config.collector_cluster
    collector = Collector(config.collector_cluster, host, config.collector_endpoint, headers, 5.0)
    return Zipkin(
        Reporter(collector, joined, around.stats.group(ZipkinStats, "tracing.zipkin")),
        around.node.cluster,
        local_ip(),
        around.node.id,
        is_long=config.trace_id_128bit,
        is_shared=value_or(config, "shared_span_context", True),
        with_w3c=config.trace_context_option == _WITH_W3C,
    )


def _opentelemetry(packed: Any, around: Surroundings, place: Place) -> Provider:
    from envoy.config.trace.v3.opentelemetry_pb2 import OpenTelemetryConfig  # noqa: PLC0415

    from mesh.proxy.observe.tracing.opentelemetry import OpenTelemetry, export, framed  # noqa: PLC0415
    from mesh.proxy.observe.tracing.reporter import Reporter  # noqa: PLC0415

    config = unpack(packed, OpenTelemetryConfig, place)
    check(config, SUPPORTED, place)
    service = config.service_name or "unknown_service:envoy"
    join = export(service, version(), _attributes(config, place).items())
    if config.HasField("http_service"):
        collector = _http_collector(config.http_service, place.at("http_service"))
    elif config.HasField("grpc_service"):
        collector, join = _grpc_collector(config.grpc_service, place.at("grpc_service")), framed(join)
    else:
        raise place.refuse("one of http_service, grpc_service is required")
    stats = around.stats.group(OpenTelemetryStats, "tracing.opentelemetry")
    return OpenTelemetry(Reporter(collector, join, stats), around.node.id, around.node.locality.zone)


def _http_collector(config: Any, place: Place) -> Any:
    from mesh.proxy.observe.tracing.reporter import Collector  # noqa: PLC0415

    headers = [(b"content-type", b"application/x-protobuf")]
    for index, option in enumerate(config.request_headers_to_add):
        if "%" in option.header.value:
            inside = place.at(f"request_headers_to_add[{index}].header")
            raise inside.refuse("only constant values are supported by this sidecar", "value")
        headers.append((option.header.key.lower().encode(), option.header.value.encode()))
    uri = urlsplit(config.http_uri.uri)
    timeout = seconds_or(config.http_uri, "timeout", 5.0)
    return Collector(config.http_uri.cluster, uri.netloc, uri.path or "/", tuple(headers), timeout)


def _grpc_collector(config: Any, place: Place) -> Any:
    from mesh.proxy.observe.tracing.reporter import Collector  # noqa: PLC0415

    if not config.HasField("envoy_grpc"):
        raise place.refuse("only envoy_grpc is supported by this sidecar")
    headers = [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    headers += [(each.key.lower().encode(), each.value.encode()) for each in config.initial_metadata]
    cluster = config.envoy_grpc.cluster_name
    timeout = seconds_or(config, "timeout", 5.0)
    return Collector(cluster, config.envoy_grpc.authority or cluster, _EXPORT, tuple(headers), timeout)


def _attributes(config: Any, place: Place) -> dict[str, str]:
    """What the resource detectors say of this process."""
    found: dict[str, str] = {}
    for index, each in enumerate(config.resource_detectors):
        from envoy.extensions.tracers.opentelemetry.resource_detectors.v3 import (  # noqa: PLC0415 - few have any
            environment_resource_detector_pb2 as environment,
        )
        from envoy.extensions.tracers.opentelemetry.resource_detectors.v3 import (  # noqa: PLC0415
            static_config_resource_detector_pb2 as static,
        )

        kind, inside = each.typed_config.TypeName(), place.at(f"resource_detectors[{index}]")
        if kind == _ENVIRONMENT:
            pairs = (pair.partition("=") for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
            check(unpack(each.typed_config, environment.EnvironmentResourceDetectorConfig, inside), SUPPORTED, inside)
            found |= {name.strip(): value.strip() for name, _, value in pairs if name.strip()}
        elif kind == _STATIC:
            detector = unpack(each.typed_config, static.StaticConfigResourceDetectorConfig, inside)
            check(detector, SUPPORTED, inside)
            found |= dict(detector.attributes)
        else:
            raise inside.refuse(f"resource detector {each.name} is not supported by this sidecar")
    return found
