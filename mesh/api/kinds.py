"""The table of kinds: API group, served versions, plural, scope, typed class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from mesh.api.authorization_policy import AuthorizationPolicy
from mesh.api.core import ConfigMap, Namespace, Secret, Service, ServiceAccount
from mesh.api.destination_rule import DestinationRule
from mesh.api.gateway import Gateway
from mesh.api.meshdrill import GROUP, Drill, Fault
from mesh.api.meta import Resource
from mesh.api.peer_authentication import PeerAuthentication
from mesh.api.pod import Deployment, Pod
from mesh.api.pod_fault import PodFault
from mesh.api.request_authentication import RequestAuthentication
from mesh.api.service_entry import ServiceEntry
from mesh.api.virtual_service import VirtualService

CORE = ""
NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"


class UnknownKindError(LookupError):
    """No kind of that name, or not in that group and version. The text says which there are."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One row. `group` is empty for Kubernetes' core group; `versions` are served, the preferred one first."""

    name: str
    group: str
    versions: tuple[str, ...]
    plural: str
    type: type[Resource]
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The preferred `apiVersion`."""
        return self.api_versions[0]

    @property
    def api_versions(self) -> tuple[str, ...]:
        """Every `apiVersion` that names this kind."""
        return tuple(f"{self.group}/{version}" if self.group else version for version in self.versions)


_ISTIO_NETWORKING = ("v1", "v1beta1", "v1alpha3")
_ISTIO_SECURITY = ("v1", "v1beta1")

KINDS: tuple[Kind, ...] = (
    Kind("Namespace", CORE, ("v1",), "namespaces", Namespace, namespaced=False),
    Kind("Service", CORE, ("v1",), "services", Service),
    Kind("ServiceAccount", CORE, ("v1",), "serviceaccounts", ServiceAccount),
    Kind("ConfigMap", CORE, ("v1",), "configmaps", ConfigMap),
    Kind("Secret", CORE, ("v1",), "secrets", Secret),
    Kind("Pod", CORE, ("v1",), "pods", Pod),
    Kind("Deployment", "apps", ("v1",), "deployments", Deployment),
    Kind("VirtualService", NETWORKING, _ISTIO_NETWORKING, "virtualservices", VirtualService),
    Kind("DestinationRule", NETWORKING, _ISTIO_NETWORKING, "destinationrules", DestinationRule),
    Kind("Gateway", NETWORKING, _ISTIO_NETWORKING, "gateways", Gateway),
    Kind("ServiceEntry", NETWORKING, _ISTIO_NETWORKING, "serviceentries", ServiceEntry),
    Kind("PeerAuthentication", SECURITY, _ISTIO_SECURITY, "peerauthentications", PeerAuthentication),
    Kind("AuthorizationPolicy", SECURITY, _ISTIO_SECURITY, "authorizationpolicies", AuthorizationPolicy),
    Kind("RequestAuthentication", SECURITY, _ISTIO_SECURITY, "requestauthentications", RequestAuthentication),
    Kind("Fault", GROUP, ("v1alpha1",), "faults", Fault),
    Kind("PodFault", GROUP, ("v1alpha1",), "podfaults", PodFault),
    Kind("Drill", GROUP, ("v1alpha1",), "drills", Drill),
)

BY_NAME: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in KINDS})
BY_TYPE: Mapping[type[Resource], Kind] = MappingProxyType({kind.type: kind for kind in KINDS})
_BY_PLURAL = {(kind.group, kind.plural): kind for kind in KINDS}


def by_path(group: str, version: str, plural: str) -> Kind:
    """The kind of a REST path; `group` is empty under `/api`."""
    kind = _BY_PLURAL.get((group, plural))
    if kind is None or version not in kind.versions:
        raise UnknownKindError(f'no kind at "{f"{group}/" if group else ""}{version}/{plural}"')
    return kind


def by_api_version(api_version: str, name: str) -> Kind:
    """The kind of a manifest's `apiVersion` and `kind`."""
    kind = BY_NAME.get(name)
    if kind is None:
        near = get_close_matches(name, BY_NAME, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(BY_NAME)}"
        raise UnknownKindError(f'unknown kind "{name}"{hint}')
    if api_version not in kind.api_versions:
        raise UnknownKindError(f'{name} is not served as "{api_version}"; use {" or ".join(kind.api_versions)}')
    return kind
