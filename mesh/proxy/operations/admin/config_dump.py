"""`/config_dump`: what is configured, in Envoy's `ConfigDump` shape, secrets redacted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from mesh.proxy import decode
from mesh.proxy.operations import references
from mesh.proxy.operations.admin.dump_query import UnknownResource, select
from mesh.proxy.operations.admin.page import Page, Reply, Request, Sidecar, json_reply
from mesh.proxy.operations.configuration import Configuration
from mesh.proxy.operations.references import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Kind

_ADMIN = "type.googleapis.com/envoy.admin.v3."
_REDACTED = "[redacted]"
# Fields that Envoy's API marks `sensitive`.
_SENSITIVE = frozenset({"private_key", "password", "pkcs12", "session_ticket_keys", "inline_headers_secret"})

Tree = dict[str, Any]


async def answer(sidecar: Sidecar, request: Request) -> Reply:
    configuration = sidecar.configuration
    configs = [
        {"@type": f"{_ADMIN}BootstrapConfigDump", "bootstrap": decode.to_dict(sidecar.bootstrap)},
        _clusters(configuration),
        *([_endpoints(configuration)] if "include_eds" in request.query else []),
        _listeners(configuration),
        _routes(configuration),
        _secrets(configuration),
    ]
    try:
        selected = select(configs, request.query)
    except UnknownResource as error:
        return Reply(str(error), 404)
    return json_reply({"configs": [redact(config) for config in selected]} if selected else {})


def redact(tree: Any) -> Any:
    """A copy of `tree` in which every sensitive value reads `[redacted]`."""
    if isinstance(tree, dict):
        return {name: _hidden(value) if _is_sensitive(name, value) else redact(value) for name, value in tree.items()}
    return [redact(value) for value in tree] if isinstance(tree, list) else tree


def _is_sensitive(name: str, value: Any) -> bool:
    return name in _SENSITIVE or (name == "secret" and isinstance(value, dict) and "@type" not in value)


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _hidden(inner) for name, inner in value.items()}
    return [_hidden(inner) for inner in value] if isinstance(value, list) else _REDACTED


def _clusters(configuration: Configuration) -> Tree:
    dynamic = [
        (name, each | _error(configuration, CLUSTER, name))
        for name, each in _dynamic(configuration, CLUSTER, "cluster")
    ]
    return {
        "@type": f"{_ADMIN}ClustersConfigDump",
        "version_info": configuration.versions.get(CLUSTER, ""),
        "static_clusters": list(_static(configuration, CLUSTER, "cluster")),
        "dynamic_active_clusters": [each for name, each in dynamic if (CLUSTER, name) not in configuration.warm_later],
        "dynamic_warming_clusters": [each for name, each in dynamic if (CLUSTER, name) in configuration.warm_later],
    }


def _endpoints(configuration: Configuration) -> Tree:
    static = [
        {"endpoint_config": _packed(cluster.load_assignment)}
        for cluster in configuration.accepted.clusters.values()
        if cluster.HasField("load_assignment")
    ]
    dynamic = [each for _, each in _dynamic(configuration, ENDPOINT, "endpoint_config")]
    return {
        "@type": f"{_ADMIN}EndpointsConfigDump",
        "static_endpoint_configs": static,
        "dynamic_endpoint_configs": dynamic,
    }


def _listeners(configuration: Configuration) -> Tree:
    states: dict[str, Tree] = {}
    for name, each in _dynamic(configuration, LISTENER, "listener"):
        states[name] = {"warming_state" if (LISTENER, name) in configuration.warm_later else "active_state": each}
    for kind, name in configuration.rejections:
        if kind == LISTENER:  # one that was never accepted has nothing but its error
            states.setdefault(name, {}).update(_error(configuration, LISTENER, name))
    return {
        "@type": f"{_ADMIN}ListenersConfigDump",
        "version_info": configuration.versions.get(LISTENER, ""),
        "static_listeners": list(_static(configuration, LISTENER, "listener")),
        "dynamic_listeners": [{"name": name, **state} for name, state in states.items()],
    }


def _routes(configuration: Configuration) -> Tree:
    static = [
        {"route_config": _packed(table)}
        for listener in configuration.accepted.listeners.values()
        for table in references.inline_routes(listener)
    ]
    dynamic = [each for _, each in _dynamic(configuration, ROUTE, "route_config")]
    return {"@type": f"{_ADMIN}RoutesConfigDump", "static_route_configs": static, "dynamic_route_configs": dynamic}


def _secrets(configuration: Configuration) -> Tree:
    waiting = [{"name": name} for kind, name in configuration.missing() if kind == SECRET]
    return {
        "@type": f"{_ADMIN}SecretsConfigDump",
        "static_secrets": [
            {"name": n} | each for n, each in _named(_static(configuration, SECRET, "secret"), "secret")
        ],
        "dynamic_active_secrets": [{"name": name} | each for name, each in _dynamic(configuration, SECRET, "secret")],
        "dynamic_warming_secrets": waiting,
    }


def _named(entries: Iterator[Tree], field: str) -> Iterator[tuple[str, Tree]]:
    return ((entry[field]["name"], entry) for entry in entries)


def _static(configuration: Configuration, kind: Kind, field: str) -> Iterator[Tree]:
    for name, message in getattr(configuration.static, kind).items():
        yield {field: _packed(message), **_updated(configuration, kind, name)}


def _dynamic(configuration: Configuration, kind: Kind, field: str) -> Iterator[tuple[str, Tree]]:
    static: Mapping[str, Any] = getattr(configuration.static, kind)
    for name, message in getattr(configuration.accepted, kind).items():
        if name not in static:
            origin = configuration.origins[kind, name]
            version = {"version_info": origin.version} if origin.version else {}
            yield name, {**version, field: _packed(message), **_updated(configuration, kind, name)}


def _error(configuration: Configuration, kind: Kind, name: str) -> Tree:
    rejection = configuration.rejections.get((kind, name))
    if rejection is None:
        return {}
    said = {"last_update_attempt": _time(rejection.at), "details": rejection.details, "version_info": rejection.version}
    return {"error_state": said}


def _updated(configuration: Configuration, kind: Kind, name: str) -> Tree:
    return {"last_updated": _time(configuration.origins[kind, name].updated)}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _packed(message: Any) -> Tree:
    return {"@type": f"type.googleapis.com/{message.DESCRIPTOR.full_name}", **decode.to_dict(message)}


PAGES = (
    Page(
        "/config_dump",
        "dump current configs",
        answer,
        parameters={
            "resource": "The resource to dump",
            "mask": "The mask to apply, of fields with dots between",
            "name_regex": "Dump only what has a name that matches this regular expression",
            "include_eds": "Dump currently loaded configuration including EDS",
        },
    ),
)
