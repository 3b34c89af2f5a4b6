"""Who a proxy says it is, and whether its certificate says the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from envoy.config.core.v3.base_pb2 import Node

from mesh.registry.types import Workload, WorkloadKey
from mesh.xds.compile.proxy import Engine, Interception, Proxy, Role
from mesh.xds.compile.tls import spiffe

_SPIFFE = b"spiffe://"


class NodeError(ValueError):
    """The node cannot be read. The text says what it should be."""


class IdentityError(Exception):
    """The client's certificate is not that of the node it claims to be."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """An Istio node: `sidecar~127.64.1.1~reviews-v1-abc.default~default.svc.cluster.local`."""

    id: str
    address: str
    proxy: Proxy


def read_node(node: Node) -> NodeIdentity:
    """From a stream's first request."""
    try:
        role, address, pod, _ = node.id.split("~")
        name, namespace = pod.rsplit(".", 1)
        key = WorkloadKey(namespace, name)
        interception = Interception(_metadata(node, "INTERCEPTION_MODE") or Interception.NONE)
        return NodeIdentity(node.id, address, Proxy(key, Role(role), _engine(node), interception))
    except ValueError as error:
        raise NodeError(
            f'node id "{node.id}" with ENGINE "{_metadata(node, "ENGINE")}" and INTERCEPTION_MODE '
            f'"{_metadata(node, "INTERCEPTION_MODE")}" is not sidecar|router~<address>~<pod>.<namespace>~<domain> '
            "with ENGINE python|envoy and INTERCEPTION_MODE NONE|REDIRECT"
        ) from error


def _engine(node: Node) -> Engine:
    """As the agent says, else by what the client says of itself."""
    said = _metadata(node, "ENGINE")
    if _is_grpc(node):
        return Engine.GRPC
    if not said and node.user_agent_name == "envoy":
        return Engine.LONE_ENVOY
    return Engine(said or Engine.PYTHON)


def _is_grpc(node: Node) -> bool:
    """Istio's mark, or gRPC's own name of itself (`gRPC C-core`, `gRPC Go`, ...)."""
    return _metadata(node, "GENERATOR") == Engine.GRPC or node.user_agent_name.startswith("gRPC")


def certified_identities(auth_context: Mapping[str, Iterable[bytes]]) -> frozenset[str]:
    """SPIFFE ids of a TLS peer, from gRPC's view of its certificate."""
    names = auth_context.get("x509_subject_alternative_name", ())
    return frozenset(name.decode() for name in names if name.startswith(_SPIFFE))


def check_identity(node: NodeIdentity, workload: Workload, certified: frozenset[str], trust_domain: str) -> None:
    """Raise IdentityError unless the certificate is that of the pod's namespace and service account."""
    wanted = spiffe(trust_domain, workload.namespace, workload.service_account)
    if certified != {wanted}:
        raise IdentityError(
            f"node {node.id} runs as {wanted}, but its certificate is for {', '.join(sorted(certified)) or 'nobody'}"
        )


def _metadata(node: Node, key: str) -> str:
    return node.metadata.fields[key].string_value if key in node.metadata.fields else ""
