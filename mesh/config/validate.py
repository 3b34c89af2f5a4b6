"""Everything that is wrong with one object beyond its types, by its kind's rules and by what we carry out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mesh.api.authorization_policy import AuthorizationPolicy
from mesh.api.core import ConfigMap, Secret, Service
from mesh.api.destination_rule import DestinationRule
from mesh.api.gateway import Gateway
from mesh.api.meshdrill import Fault
from mesh.api.meta import Resource
from mesh.api.peer_authentication import PeerAuthentication
from mesh.api.pod import Deployment, Pod
from mesh.api.pod_fault import PodFault
from mesh.api.request_authentication import RequestAuthentication
from mesh.api.service_entry import ServiceEntry
from mesh.api.virtual_service import VirtualService
from mesh.config.decode import Manifest
from mesh.config.mesh_config import holds_mesh_config, read_mesh_config
from mesh.config.overlay import fault_problems
from mesh.config.problems import InvalidError, Problem, ProblemList
from mesh.config.rules.authorization_policy import check_authorization_policy
from mesh.config.rules.checks import Place
from mesh.config.rules.destination_rule import check_destination_rule
from mesh.config.rules.gateway import check_gateway
from mesh.config.rules.kubernetes import check_config_map, check_deployment, check_metadata, check_pod, check_service
from mesh.config.rules.peer_authentication import check_peer_authentication
from mesh.config.rules.pod_fault import check_pod_fault
from mesh.config.rules.request_authentication import check_request_authentication
from mesh.config.rules.secret import check_secret
from mesh.config.rules.service_entry import check_service_entry
from mesh.config.rules.virtual_service import check_virtual_service
from mesh.config.support import unsupported_fields

_RULES: Mapping[type[Resource], Callable[[Any, Place], None]] = {
    VirtualService: check_virtual_service,
    DestinationRule: check_destination_rule,
    Gateway: check_gateway,
    ServiceEntry: check_service_entry,
    PeerAuthentication: check_peer_authentication,
    AuthorizationPolicy: check_authorization_policy,
    RequestAuthentication: check_request_authentication,
    Service: check_service,
    ConfigMap: check_config_map,
    Secret: check_secret,
    Deployment: check_deployment,
    Pod: check_pod,
    PodFault: check_pod_fault,
}


def validate(manifest: Manifest) -> tuple[Problem, ...]:
    """All problems of an object, none meaning that it may be stored. A Fault's resources are validated as well."""
    problems = ProblemList(manifest.source, str(manifest))
    check_metadata(manifest.resource, manifest.kind, Place(problems, ("metadata",)))
    rule = _RULES.get(manifest.kind.type)
    if rule is not None:
        rule(manifest.resource, Place(problems, ("spec",)))
    if isinstance(manifest.resource, ConfigMap) and holds_mesh_config(manifest.resource):
        read_mesh_config(manifest.resource, problems)
    for path, message in unsupported_fields(manifest.kind.name, manifest.raw):
        problems.add(path, message)
    if manifest.kind.type is Fault:
        problems.extend(fault_problems(manifest, validate))
    return problems.all()


def require_valid(manifest: Manifest) -> Manifest:
    """The object itself. Raises InvalidError with every problem."""
    problems = validate(manifest)
    if problems:
        raise InvalidError(problems)
    return manifest
