"""`Bootstrap.stats_sinks` to the configuration of StatsD sinks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.metrics.v3.stats_pb2 import DogStatsdSink, StatsdSink

from mesh.proxy.compile.values import ADDRESS, unpack, value_or
from mesh.proxy.fields import Place, check
from mesh.proxy.observe.statsd import Dialect, SinkConfig

_M = "envoy.config.metrics.v3."
_GRAPHITE = "envoy.extensions.stat_sinks.graphite_statsd.v3.GraphiteStatsdSink"
SUPPORTED: Mapping[str, frozenset[str]] = {
    _M + "StatsSink": frozenset(("name", "typed_config")),
    _M + "StatsdSink": frozenset(("address", "tcp_cluster_name", "prefix")),
    _M + "DogStatsdSink": frozenset(("address", "prefix", "max_bytes_per_datagram")),
    _GRAPHITE: frozenset(("address", "prefix", "max_bytes_per_datagram")),
    **ADDRESS,
}
_UDP_PROTOCOL = 1


def compile_sinks(bootstrap: Bootstrap) -> tuple[SinkConfig, ...]:
    """Raises Refused."""
    place = Place("Bootstrap", bootstrap.node.id)
    return tuple(
        _sink(each, bootstrap, place.at(f"stats_sinks[{index}]")) for index, each in enumerate(bootstrap.stats_sinks)
    )


def _sink(sink: Any, bootstrap: Bootstrap, place: Place) -> SinkConfig:
    check(sink, SUPPORTED, place)
    kind, inside = sink.typed_config.TypeName(), place.at("typed_config")
    if kind == StatsdSink.DESCRIPTOR.full_name:
        config = unpack(sink.typed_config, StatsdSink, inside)
        dialect = Dialect.PLAIN
    elif kind == DogStatsdSink.DESCRIPTOR.full_name:
        config, dialect = unpack(sink.typed_config, DogStatsdSink, inside), Dialect.DOG
    elif kind == _GRAPHITE:
        from envoy.extensions.stat_sinks.graphite_statsd.v3.graphite_statsd_pb2 import (  # noqa: PLC0415 - few name it
            GraphiteStatsdSink,
        )

        config, dialect = unpack(sink.typed_config, GraphiteStatsdSink, inside), Dialect.GRAPHITE
    else:
        raise inside.refuse(f"stats sink {sink.name} ({kind or 'no typed_config'}) is not supported by this sidecar")
    check(config, SUPPORTED, inside)
    prefix = config.prefix or "envoy"
    if dialect is Dialect.PLAIN and config.tcp_cluster_name:
        address, port = _of_cluster(config.tcp_cluster_name, bootstrap, inside)
        return SinkConfig(address, port, True, prefix, dialect)
    if not config.HasField("address"):
        raise inside.refuse("required", "address")
    target = config.address.socket_address
    if config.address.WhichOneof("address") != "socket_address" or target.protocol != _UDP_PROTOCOL:
        raise inside.refuse("only a socket_address with protocol UDP is supported", "address")
    size = 0 if dialect is Dialect.PLAIN else value_or(config, "max_bytes_per_datagram", 0)
    return SinkConfig(target.address, target.port_value, False, prefix, dialect, size)


def _of_cluster(name: str, bootstrap: Bootstrap, place: Place) -> tuple[str, int]:
    """The first endpoint of a static cluster: StatsD is one server."""
    for cluster in bootstrap.static_resources.clusters:
        if cluster.name == name:
            for locality in cluster.load_assignment.endpoints:
                for each in locality.lb_endpoints:
                    found = each.endpoint.address.socket_address
                    return found.address, found.port_value
    raise place.refuse(f"{name!r} is no static cluster of this bootstrap with an endpoint", "tcp_cluster_name")
