"""Every field that the compiler's tables let through is read by the code that they belong to, or said here to be inert.

A field counts as read where a module that the table's own imports names it, as an attribute or in a string, outside of
any table. That shows no more than that the name is used; a field that nobody reads cannot hide.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import mesh.proxy
from mesh.proxy.fields import OPAQUE
from mesh.proxy.supported import Table, tables

ROOT = Path(mesh.proxy.__file__).parents[2]
_COMMON_LB = "envoy.config.cluster.v3.Cluster.CommonLbConfig"
_LOCALITY_LB = "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig"
_TLS = "envoy.extensions.transport_sockets.tls.v3"
_READ_BY_REFERENCES = "mesh.proxy.operations.references reads it"
_NO_LOCAL_CLUSTER = "zones are routed by where the bootstrap names a local cluster, and that is refused"
_NO_RUNTIME = "runtime keys that could stand in for the default are refused"

# Why a field may be let through though its table's modules do not read it.
UNREAD = {
    "envoy.config.cluster.v3.Cluster.track_cluster_stats": "all that it could ask for is refused",
    f"{_COMMON_LB}.close_connections_on_host_set_change": "mesh.proxy.compile.clusters reads it",
    f"{_COMMON_LB}.ignore_new_hosts_until_first_hc": "mesh.proxy.compile.clusters reads it",
    f"{_COMMON_LB}.ZoneAwareLbConfig.min_cluster_size": _NO_LOCAL_CLUSTER,
    f"{_COMMON_LB}.ZoneAwareLbConfig.routing_enabled": _NO_LOCAL_CLUSTER,
    f"{_LOCALITY_LB}.ZoneAwareLbConfig.min_cluster_size": _NO_LOCAL_CLUSTER,
    f"{_LOCALITY_LB}.ZoneAwareLbConfig.routing_enabled": _NO_LOCAL_CLUSTER,
    "envoy.config.cluster.v3.Cluster.EdsClusterConfig.eds_config": _READ_BY_REFERENCES,
    "envoy.config.core.v3.JsonFormatOptions.sort_properties": "logs are sorted without it, as Envoy's are",
    "envoy.config.core.v3.SubstitutionFormatString.json_format_options": "logs are sorted without it, as Envoy's are",
    "envoy.config.core.v3.RuntimeFractionalPercent.runtime_key": _NO_RUNTIME,
    "envoy.config.core.v3.SocketOption.description": "a comment",
    "envoy.config.endpoint.v3.ClusterLoadAssignment.cluster_name": "the assignment's own name, by which it was found",
    "envoy.config.listener.v3.Listener.enable_reuse_port": "mesh.proxy.server reads it",
    "envoy.config.overload.v3.OverloadManager.refresh_interval": "connections are counted as they come",
    "envoy.config.route.v3.RouteAction.include_vh_rate_limits": "mesh.proxy.compile.routes reads it",
    "envoy.config.route.v3.WeightedCluster.runtime_key_prefix": _NO_RUNTIME,
    "envoy.extensions.filters.http.jwt_authn.v3.JwtRequirement.requires_any": "what is left of requires_type",
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector.initial_read_buffer_size": "a hint for speed",
    "envoy.extensions.filters.network.http_connection_manager.v3.Rds.config_source": _READ_BY_REFERENCES,
    f"{_TLS}.SdsSecretConfig.sds_config": _READ_BY_REFERENCES,
}


@cache
def tree(module: str) -> ast.Module | None:
    """The source of a module of the proxy; None if there is none of that name."""
    path = ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.exists():
            return ast.parse(file.read_text(encoding="utf-8"))
    return None


def imported(source: ast.Module) -> Iterator[str]:
    """What it may import from the proxy, names within modules included."""
    for node in ast.walk(source):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mesh.proxy"):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


class Words(ast.NodeVisitor):
    """The attributes and the words in strings of a module, without its tables."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_Assign(self, node: ast.Assign) -> None:
        if not any(isinstance(target, ast.Name) and target.id == "SUPPORTED" for target in node.targets):
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.found.add(node.attr)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and " " not in node.value:  # prose reads nothing
            self.found.update(node.value.replace("[", ".").split("."))


@cache
def words(module: str) -> frozenset[str]:
    """The words of a module's own."""
    source = tree(module)
    if source is None:
        return frozenset()
    visitor = Words()
    visitor.visit(source)
    return frozenset(visitor.found)


def words_below(module: str) -> set[str]:
    """The words of a module and of all that it imports, directly or not."""
    seen: set[str] = set()
    found: set[str] = set()
    ahead = [module]
    while ahead:
        name = ahead.pop()
        source = None if name in seen else tree(name)
        seen.add(name)
        if source is not None:
            found |= words(name)
            ahead += imported(source)
    return found


def unread(table: Table) -> set[str]:
    """The fields of a table that its module does not read, nor what that imports."""
    read = words_below(table.module)
    return {
        f"{message}.{field}"
        for message, fields in table.messages.items()
        if fields is not OPAQUE
        for field in fields - read
    }


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.module)
def test_a_field_of_the_table_is_read(table: Table) -> None:
    assert unread(table) <= UNREAD.keys(), "read them, refuse them, or say in UNREAD why they ask for nothing"


def test_every_exception_is_one() -> None:
    assert UNREAD.keys() == set().union(*map(unread, tables())), "these are read now: drop them from UNREAD"


def test_a_field_that_nobody_reads_is_found() -> None:
    name = "envoy.config.core.v3.TcpKeepalive"
    table = Table("mesh.proxy.compile.clusters", "", {name: frozenset(("keepalive_probes", "keepalive_moon_phase"))})
    assert unread(table) == {f"{name}.keepalive_moon_phase"}
