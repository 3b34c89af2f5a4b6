"""A catalog of compiled resources from YAML, with no process and no network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from mesh.api.meta import Resource as ApiResource
from mesh.config.decode import decode_text
from mesh.registry.kubernetes import KubernetesRegistry
from mesh.registry.types import WorkloadKey
from mesh.snapshot.builder import SnapshotBuilder
from mesh.snapshot.options import MeshOptions
from mesh.xds.ads.catalog import Catalog, ProxyConfig
from mesh.xds.ads.touched import Touched
from mesh.xds.compile.proxy import Engine, Interception, Proxy, Role
from mesh.xds.resource import Resource

BOOKINFO = Path(__file__).parents[1] / "golden" / "xds" / "bookinfo.yaml"
_TYPES = (Cluster, ClusterLoadAssignment, Listener, RouteConfiguration, Secret)
_MESSAGES = {message.DESCRIPTOR.full_name: message for message in _TYPES}


def objects(*texts: str) -> list[ApiResource]:
    """Typed objects of YAML texts; a problem in one of them fails the test."""
    resources = []
    for text in texts:
        decoded = decode_text(text)
        assert not decoded.problems, "\n".join(str(problem) for problem in decoded.problems)
        resources += [manifest.resource for manifest in decoded.manifests]
    return resources


def client_and_web(block: str, app: int, protocol: str = "http") -> str:
    """Two pods at `block`.1 and `block`.2 with mutual TLS between them; the second serves `web` from the port `app`."""
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{name: {protocol}, port: 9080}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client-0, labels: {{app: client}}}}
spec: {{serviceAccountName: client, containers: [{{name: istio-proxy}}]}}
status: {{phase: Running, podIP: {block}.1, conditions: [{{type: Ready, status: "True"}}]}}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  labels: {{security.istio.io/tlsMode: istio, app: web, version: v1}}
  annotations: {{meshdrill.dev/app-ports: '{{"9080": {app}}}'}}
spec: {{serviceAccountName: web, containers: [{{name: web, ports: [{{containerPort: 9080}}]}}, {{name: istio-proxy}}]}}
status: {{phase: Running, podIP: {block}.2, conditions: [{{type: Ready, status: "True"}}]}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default}}
spec: {{mtls: {{mode: STRICT}}}}
"""


class Mesh:
    """Objects in, snapshots and resources out."""

    def __init__(self, resources: Iterable[ApiResource] = (), options: MeshOptions | None = None) -> None:
        self.builder = SnapshotBuilder(options or MeshOptions())
        self.registry = KubernetesRegistry()
        self.registry.subscribe(self.builder.change_registry)
        self.catalog = Catalog(self.builder.build(0))
        self.version = 0
        self.change(resources)

    def change(self, upserts: Iterable[ApiResource], deletions: Iterable[ApiResource] = ()) -> Touched:
        """Take in changes and show the next snapshot; returns what `Catalog.show` does."""
        there, gone = list(upserts), list(deletions)
        self.registry.change(there, gone)
        self.builder.change_config(there, gone)
        self.version += 1
        return self.catalog.show(self.builder.build(self.version))

    def config(
        self,
        pod: str,
        namespace: str = "default",
        role: Role = Role.SIDECAR,
        engine: Engine = Engine.PYTHON,
        interception: Interception = Interception.NONE,
    ) -> ProxyConfig:
        return self.catalog.config(Proxy(WorkloadKey(namespace, pod), role, engine, interception))


def unpacked(wrapped: Any) -> Message:
    """The message in an Any of one of our types."""
    message = _MESSAGES[wrapped.TypeName()]()
    assert wrapped.Unpack(message)
    return message


def decode(resource: Resource) -> Message:
    """The message of an encoded resource."""
    (wrapped,) = DiscoveryResponse.FromString(resource.encoded).resources
    return unpacked(wrapped)


def clusters(config: ProxyConfig) -> dict[str, Cluster]:
    return {resource.name: decode(resource) for resource in config.clusters}


def listeners(config: ProxyConfig) -> dict[str, Listener]:
    return {resource.name: decode(resource) for resource in config.listeners}


def routes(config: ProxyConfig) -> dict[str, RouteConfiguration]:
    """All that the proxy's listeners ask for."""
    names = [name for resource in config.listeners for name in resource.wants]
    found = {name: config.routes(name) for name in names}
    return {name: decode(resource) for name, resource in found.items() if resource is not None}


def assignments(config: ProxyConfig) -> dict[str, ClusterLoadAssignment]:
    """All that the proxy's clusters ask for."""
    names = [name for resource in config.clusters for name in resource.wants]
    found = {name: config.endpoints(name) for name in names}
    return {name: decode(resource) for name, resource in found.items() if resource is not None}


def secrets(config: ProxyConfig) -> dict[str, Secret]:
    """All that the proxy's listeners ask for."""
    found = {name: config.secrets(name) for name in config.secret_names}
    return {name: decode(resource) for name, resource in found.items() if resource is not None}
