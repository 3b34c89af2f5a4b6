"""Istio's AuthorizationPolicy (istio/api security/v1beta1/authorization_policy.proto), every field."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from mesh.api.fields import IstioStatus
from mesh.api.meta import Resource, WorkloadSelector

DRY_RUN = "istio.io/dry-run"
"""Annotation: `"true"` only reports what the policy would do."""


class Action(StrEnum):
    """DENY is asked before ALLOW; AUDIT decides nothing."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who calls. Fields are ANDed, the values of one ORed; an empty field asks for nothing."""

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    not_service_accounts: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class From:
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is asked for. All but ports are HTTP's."""

    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class To:
    operation: Operation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One attribute, such as `request.headers[x-token]`."""

    key: str = ""
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Some source, some operation, and all conditions. An empty rule matches everything."""

    from_: tuple[From, ...] = ()
    to: tuple[To, ...] = ()
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionProvider:
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTargetReference:
    """A resource of Kubernetes' Gateway API, in place of a selector."""

    group: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationPolicySpec:
    """`{}` allows nothing: an ALLOW policy without a rule that anybody could match."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    rules: tuple[Rule, ...] = ()
    action: Action = Action.ALLOW
    provider: ExtensionProvider | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationPolicy(Resource):
    KIND: ClassVar[str] = "AuthorizationPolicy"

    spec: AuthorizationPolicySpec = field(default_factory=AuthorizationPolicySpec)
    status: IstioStatus = field(default_factory=dict)
