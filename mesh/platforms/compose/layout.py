"""What who writes the file and the node in its container agree on: where things are, and which pods there are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mesh.config.decode import Manifest, decode_object
from mesh.injector.inject import ProxySettings, inject
from mesh.platforms.node.manifests import pod_manifest
from mesh.platforms.node.rollout import template_hash

API_PORT, XDS_PORT = 15014, 15012

STATE = Path("/var/lib/meshdrill")
"""The control plane's state, which the node reads."""

MESH = Path("/etc/meshdrill/mesh.json")
"""A `Layout`, for the node."""

PROXIES, SOCKETS = Path("/pods"), Path("/sockets")
"""At the node, each pod's folder of its proxy, and the one of its sockets."""

RUN = Path("/run/mesh")
"""The node's own files: `mesh.json` for `meshdrill` in the node's container, and `READY` while all pods are ready."""

READY = RUN / "ready"


@dataclass(frozen=True, slots=True)
class Layout:
    """`manifests` are applied first; `pods` are Pods with no status, and `addresses` theirs by name."""

    name: str
    engine: str
    gateway: str
    control: str
    manifests: Sequence[Mapping[str, Any]]
    pods: Sequence[Mapping[str, Any]]
    addresses: Mapping[str, str]

    def dump(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def load(cls, text: str) -> "Layout":
        return cls(**json.loads(text))

    def decoded(self) -> list[Manifest]:
        return [decode_object(dict(manifest)) for manifest in self.manifests]


def proxy_settings(control: str, engine: str) -> ProxySettings:
    return ProxySettings(f"{control}:{API_PORT}", f"{control}:{XDS_PORT}", engine, intercepted=True, known_by="uid")


def pods_of(deployments: Sequence[Manifest], settings: ProxySettings) -> list[dict[str, Any]]:
    """A Pod for each replica, called as its Deployment is where it is alone. Raises InjectionError."""
    found: list[dict[str, Any]] = []
    taken: set[str] = set()
    for deployment in deployments:
        spec = deployment.raw["spec"]
        template = inject(spec["template"], deployment.resource.name, settings)
        owner = {**deployment.raw["metadata"], "namespace": deployment.resource.namespace}
        replicas = int(spec.get("replicas", 1))
        for number in range(1, replicas + 1):
            name = deployment.resource.name if replicas == 1 else f"{deployment.resource.name}-{number}"
            name = f"{name}.{deployment.resource.namespace}" if name in taken else name
            taken.add(name)
            found.append(pod_manifest({"metadata": owner}, template, name, template_hash(spec["template"])))
    return found
