"""Envoy's `/config_dump`, `/clusters` and `/certs` pages as tables. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mesh.cli.tables import table

Json = dict[str, Any]

_SECTIONS = {
    "listeners": ("ListenersConfigDump", ("static_listeners", "dynamic_listeners"), "listener"),
    "routes": ("RoutesConfigDump", ("static_route_configs", "dynamic_route_configs"), "route_config"),
    "clusters": ("ClustersConfigDump", ("static_clusters", "dynamic_active_clusters"), "cluster"),
}


_PAGES = {"endpoints": ("/clusters?format=json", "cluster_statuses"), "secrets": ("/certs", "certificates")}


def page(what: str) -> str:
    """The admin page that tells of it."""
    return _PAGES[what][0] if what in _PAGES else "/config_dump"


def resources(what: str, answer: Json) -> list[Json]:
    """The resources themselves, out of the page's wrapping."""
    if what in _PAGES:
        return list(answer.get(_PAGES[what][1], []))
    dump, lists, key = _SECTIONS[what]
    found = []
    for section in answer.get("configs", []):
        if section["@type"].endswith(dump):
            for entry in (item for name in lists for item in section.get(name, [])):
                inner = entry.get("active_state", entry)  # a dynamic listener is wrapped once more
                if key in inner:
                    found.append(inner[key])
    return found


def render(what: str, found: list[Json]) -> str:
    headers, rows = _TABLES[what]
    lines = sorted({row for resource in found for row in rows(resource)})  # both chains of a port share their routes
    return table(headers, lines) if lines else f"no {what}"


def _listeners(listener: Json) -> Iterator[tuple[str, ...]]:
    for chain in listener.get("filter_chains", []):
        match = chain.get("filter_chain_match", {})
        what = match.get("transport_protocol") or "any"
        protocols = match.get("application_protocols")
        yield (
            listener.get("name", ""),
            _address(listener.get("address", {})),
            what + (f" {','.join(protocols)}" if protocols else ""),
            ", ".join(_destination(item) for item in chain.get("filters", [])),
        )


def _destination(item: Json) -> str:
    config = item.get("typed_config", {})
    if "rds" in config:
        return f"route {config['rds']['route_config_name']}"
    if "route_config" in config:
        return f"route {config['route_config'].get('name', 'inline')}"
    return f"cluster {config['cluster']}" if "cluster" in config else str(item.get("name", ""))


def _routes(route_config: Json) -> Iterator[tuple[str, ...]]:
    for host in route_config.get("virtual_hosts", []):
        for number, route in enumerate(host.get("routes", [])):
            yield (
                route_config.get("name", ""),
                host["name"],
                f"{number:02}",
                _match(route.get("match", {})),
                _action(route),
            )


def _match(match: Json) -> str:
    path = next((f"{kind} {match[kind]}" for kind in ("path", "prefix") if kind in match), "")
    if "safe_regex" in match:
        path = f"regex {match['safe_regex']['regex']}"
    more = [f"header {header['name']}" for header in match.get("headers", [])]
    return " & ".join([path or "any", *more])


def _action(route: Json) -> str:
    if "redirect" in route:
        return "redirect"
    if "direct_response" in route:
        return f"answer {route['direct_response'].get('status')}"
    action = route.get("route", {})
    weighted = action.get("weighted_clusters", {}).get("clusters", [])
    if weighted:
        return ", ".join(f"{cluster['name']} {cluster.get('weight', 0)}" for cluster in weighted)
    return str(action.get("cluster", ""))


def _clusters(cluster: Json) -> Iterator[tuple[str, ...]]:
    direction, port, subset, host = [*cluster["name"].split("|"), "", "", ""][:4]
    is_mesh = direction in ("outbound", "inbound")
    yield (
        host if is_mesh and host else cluster["name"],
        port if is_mesh else "-",
        subset or "-" if is_mesh else "-",
        direction if is_mesh else "-",
        str(cluster.get("type", "STATIC")),
    )


def _endpoints(cluster: Json) -> Iterator[tuple[str, ...]]:
    for host in cluster.get("host_statuses", []):
        health = host.get("health_status", {})
        status = str(health.get("eds_health_status", "HEALTHY"))
        ejected = "ejected" if health.get("failed_outlier_check") else "OK"
        yield _address(host.get("address", {})), status, ejected, cluster["name"]


def _secrets(entry: Json) -> Iterator[tuple[str, ...]]:
    for key, kind in (("cert_chain", "certificate chain"), ("ca_cert", "trusted root")):
        for certificate in entry.get(key, []):
            names = [next(iter(name.values())) for name in certificate.get("subject_alt_names", [])]
            yield (
                kind,
                ", ".join(names),
                certificate.get("serial_number", ""),
                certificate.get("valid_from", ""),
                certificate.get("expiration_time", ""),
            )


def _address(address: Json) -> str:
    socket = address.get("socket_address", {})
    return f"{socket.get('address', '')}:{socket.get('port_value', '')}"


_TABLES: Mapping[str, tuple[list[str], Callable[[Json], Iterator[tuple[str, ...]]]]] = {
    "listeners": (["NAME", "ADDRESS", "MATCH", "DESTINATION"], _listeners),
    "routes": (["ROUTE CONFIG", "VIRTUAL HOST", "#", "MATCH", "ACTION"], _routes),
    "clusters": (["SERVICE", "PORT", "SUBSET", "DIRECTION", "TYPE"], _clusters),
    "endpoints": (["ENDPOINT", "HEALTH", "OUTLIER CHECK", "CLUSTER"], _endpoints),
    "secrets": (["KIND", "IDENTITY", "SERIAL NUMBER", "NOT BEFORE", "NOT AFTER"], _secrets),
}
