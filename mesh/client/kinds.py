"""Where each kind lives in the API: its group, version, plural and the short names that people type."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from mesh.client.errors import MeshError


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object and its place in the REST paths, as Kubernetes lays them out."""

    name: str
    api_version: str
    plural: str
    short: str
    namespaced: bool = True

    @property
    def root(self) -> str:
        """`/api/v1` for the core group, `/apis/<group>/<version>` for all others."""
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The path of a collection, of all namespaces where `namespace` is None, or of one object."""
        scope = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace is not None else ""
        leaf = f"/{quote(name, safe='')}" if name is not None else ""
        return f"{self.root}{scope}/{self.plural}{leaf}"


KINDS = (
    Kind("Namespace", "v1", "namespaces", "ns", namespaced=False),
    Kind("Service", "v1", "services", "svc"),
    Kind("ServiceAccount", "v1", "serviceaccounts", "sa"),
    Kind("Pod", "v1", "pods", "po"),
    Kind("ConfigMap", "v1", "configmaps", "cm"),
    Kind("Secret", "v1", "secrets", "secret"),
    Kind("Deployment", "apps/v1", "deployments", "deploy"),
    Kind("VirtualService", "networking.istio.io/v1", "virtualservices", "vs"),
    Kind("DestinationRule", "networking.istio.io/v1", "destinationrules", "dr"),
    Kind("Gateway", "networking.istio.io/v1", "gateways", "gw"),
    Kind("ServiceEntry", "networking.istio.io/v1", "serviceentries", "se"),
    Kind("PeerAuthentication", "security.istio.io/v1", "peerauthentications", "pa"),
    Kind("AuthorizationPolicy", "security.istio.io/v1", "authorizationpolicies", "ap"),
    Kind("RequestAuthentication", "security.istio.io/v1", "requestauthentications", "ra"),
    Kind("Fault", "meshdrill.dev/v1alpha1", "faults", "fault"),
    Kind("PodFault", "meshdrill.dev/v1alpha1", "podfaults", "pf"),
    Kind("Drill", "meshdrill.dev/v1alpha1", "drills", "drill"),
)

_BY_NAME = {alias.lower(): kind for kind in KINDS for alias in (kind.name, kind.plural, kind.short)}


def find_kind(name: str) -> Kind:
    """The kind that `name` means: its name, plural or short name in any case. Raises MeshError with those there are."""
    kind = _BY_NAME.get(name.lower())
    if kind is None:
        raise MeshError(f"no kind {name!r}; there are " + ", ".join(f"{kind.name} ({kind.short})" for kind in KINDS))
    return kind
