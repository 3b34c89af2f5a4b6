"""The Envoy v3 bootstrap: decoding, what of it this sidecar supports, and the static resources in it.

MUST NOT do I/O beyond reading the file it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.config_source_pb2 import ApiConfigSource, ApiVersion, ConfigSource
from google.protobuf.message import Message

from mesh.proxy import decode
from mesh.proxy.decode import DecodeError
from mesh.proxy.operations.options import Options
from mesh.proxy.resources import Resources

# What each message of the bootstrap may say. A message that is not listed is checked by whoever compiles it.
_SUPPORTED: Mapping[str, frozenset[str]] = {
    "Bootstrap": frozenset(
        {
            "node",
            "cluster_manager",
            "static_resources",
            "dynamic_resources",
            "admin",
            "overload_manager",
            "layered_runtime",
            "stats_config",
            "stats_sinks",
            "stats_flush_interval",
        }
    ),
    "StaticResources": frozenset({"listeners", "clusters", "secrets"}),
    "DynamicResources": frozenset({"lds_config", "cds_config", "ads_config"}),
    "Admin": frozenset({"address"}),
    "ApiConfigSource": frozenset(
        {"api_type", "transport_api_version", "grpc_services", "set_node_on_first_message_only"}
    ),
    "GrpcService": frozenset({"envoy_grpc", "initial_metadata"}),
    "EnvoyGrpc": frozenset({"cluster_name", "retry_policy"}),
    "RetryPolicy": frozenset({"retry_back_off"}),
    "ConfigSource": frozenset({"ads", "path", "path_config_source", "resource_api_version", "initial_fetch_timeout"}),
    "PathConfigSource": frozenset({"path", "watched_directory"}),
}


class BootstrapError(ValueError):
    """The bootstrap cannot be used. `str()` is one line that names file and field."""


def load(options: Options) -> Bootstrap:
    """Read the bootstrap file, merge `--config-yaml` over it, check it. Raises BootstrapError."""
    merged = Bootstrap()
    try:
        if options.config_path is not None:
            decode.parse(options.config_path.read_text(encoding="utf-8"), merged, str(options.config_path))
        if options.config_yaml is not None:
            over = Bootstrap()
            decode.parse(options.config_yaml, over, "--config-yaml")
            merged.MergeFrom(over)
        merged.node.id = merged.node.id or options.service_node
        merged.node.cluster = merged.node.cluster or options.service_cluster
        check(merged)
    except DecodeError as error:
        raise BootstrapError(str(error)) from error
    except _UnsupportedError as error:
        raise BootstrapError(f"{options.config_path or '--config-yaml'}: {error}") from error
    except UnicodeDecodeError as error:
        raise BootstrapError(f"{options.config_path}: not UTF-8 text: {error}") from error
    except OSError as error:
        raise BootstrapError(f"cannot read the bootstrap {options.config_path}: {error.strerror}") from error
    return merged


def static_resources(bootstrap: Bootstrap) -> Resources:
    """The bootstrap's own listeners, clusters and secrets, by name."""
    static = bootstrap.static_resources
    return Resources(
        # Envoy gives a nameless listener a random UUID; its place in the file is as unique, and can be found again.
        listeners={listener.name or f"listener_{index}": listener for index, listener in enumerate(static.listeners)},
        clusters={cluster.name: cluster for cluster in static.clusters},
        secrets={secret.name: secret for secret in static.secrets},
    )


def ads_cluster(bootstrap: Bootstrap) -> Cluster:
    """The static cluster that `ads_config` names; it exists once the bootstrap has been checked."""
    name = bootstrap.dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name
    return next(cluster for cluster in bootstrap.static_resources.clusters if cluster.name == name)


def check(bootstrap: Bootstrap) -> None:
    """Raise for anything at the bootstrap's own level that this sidecar does not do."""
    static, dynamic, admin = bootstrap.static_resources, bootstrap.dynamic_resources, bootstrap.admin
    _supported(bootstrap, "")
    _supported(static, "static_resources")
    _supported(dynamic, "dynamic_resources")
    _supported(admin, "admin")
    if admin.HasField("address"):
        _check_address(admin.address, "admin.address")
    for kind in ("listeners", "clusters", "secrets"):
        _check_names(getattr(static, kind), f"static_resources.{kind}", nameless=kind == "listeners")
    for kind in ("lds_config", "cds_config"):
        if dynamic.HasField(kind):
            _check_config_source(getattr(dynamic, kind), f"dynamic_resources.{kind}", dynamic.HasField("ads_config"))
    if dynamic.HasField("ads_config"):
        _check_ads(dynamic.ads_config, {cluster.name for cluster in static.clusters})
        _check_node(bootstrap)


class _UnsupportedError(ValueError):
    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


def _supported(message: Message, path: str) -> None:
    allowed = _SUPPORTED[message.DESCRIPTOR.name]
    for field, _ in message.ListFields():
        if field.name not in allowed:
            raise _UnsupportedError(f"{path}.{field.name}".lstrip("."), "not supported by this sidecar")


def _check_address(address: Any, path: str) -> None:
    if address.WhichOneof("address") != "socket_address":
        raise _UnsupportedError(path, "only socket_address is supported")
    socket_address = address.socket_address
    if not socket_address.address:
        raise _UnsupportedError(f"{path}.socket_address.address", "required")
    if socket_address.WhichOneof("port_specifier") != "port_value":
        raise _UnsupportedError(f"{path}.socket_address.port_value", "required")


def _check_names(resources: Iterable[Any], path: str, *, nameless: bool) -> None:
    seen: set[str] = set()
    for index, resource in enumerate(resources):
        if not resource.name and not nameless:
            raise _UnsupportedError(f"{path}[{index}].name", "required")
        if resource.name in seen and resource.name:
            raise _UnsupportedError(f"{path}[{index}].name", f"duplicate name {resource.name!r}")
        seen.add(resource.name)


def _check_config_source(source: ConfigSource, path: str, has_ads: bool) -> None:
    _supported(source, path)
    if source.path or source.HasField("path_config_source"):
        _supported(source.path_config_source, f"{path}.path_config_source")
        return
    if not source.HasField("ads"):
        raise _UnsupportedError(path, "only `ads: {}` and `path_config_source` are supported")
    if not has_ads:
        raise _UnsupportedError(path, "`ads` needs dynamic_resources.ads_config")


def _check_ads(ads: ApiConfigSource, clusters: set[str]) -> None:
    path = "dynamic_resources.ads_config"
    _supported(ads, path)
    if ads.api_type not in (ApiConfigSource.GRPC, ApiConfigSource.DELTA_GRPC):
        raise _UnsupportedError(f"{path}.api_type", "only GRPC and DELTA_GRPC are supported")
    if ads.transport_api_version != ApiVersion.V3:
        raise _UnsupportedError(f"{path}.transport_api_version", "only V3 is supported")
    if len(ads.grpc_services) != 1:
        raise _UnsupportedError(f"{path}.grpc_services", "exactly one is supported")
    service = ads.grpc_services[0]
    _supported(service, f"{path}.grpc_services[0]")
    _supported(service.envoy_grpc, f"{path}.grpc_services[0].envoy_grpc")
    _supported(service.envoy_grpc.retry_policy, f"{path}.grpc_services[0].envoy_grpc.retry_policy")
    if service.envoy_grpc.cluster_name not in clusters:
        raise _UnsupportedError(
            f"{path}.grpc_services[0].envoy_grpc.cluster_name",
            f"no static cluster is called {service.envoy_grpc.cluster_name!r}",
        )


def _check_node(bootstrap: Bootstrap) -> None:
    if not bootstrap.node.id or not bootstrap.node.cluster:
        raise _UnsupportedError("node", "'id' and 'cluster' are required to talk to a control plane")
