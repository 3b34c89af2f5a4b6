"""Istio's RequestAuthentication (istio/api security/v1beta1/request_authentication.proto, jwt.proto), every field."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

from mesh.api.authorization_policy import PolicyTargetReference
from mesh.api.fields import IstioStatus
from mesh.api.meta import Resource, WorkloadSelector


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTHeader:
    """Where a token stands: after `prefix`, which holds its own blank (`Bearer `)."""

    name: str
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimToHeader:
    header: str = ""
    claim: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTRule:
    """One issuer. Tokens come from the named places, or from `Authorization: Bearer` and `access_token`."""

    ONEOFS: ClassVar[tuple[tuple[str, ...], ...]] = (("jwks_uri", "jwks"),)

    issuer: str = ""
    audiences: tuple[str, ...] = ()
    jwks_uri: str | None = None
    jwks: str | None = None
    from_headers: tuple[JWTHeader, ...] = ()
    from_params: tuple[str, ...] = ()
    from_cookies: tuple[str, ...] = ()
    output_payload_to_header: str = ""
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    forward_original_token: bool = False
    timeout: timedelta | None = None
    space_delimited_claims: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAuthenticationSpec:
    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    jwt_rules: tuple[JWTRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAuthentication(Resource):
    KIND: ClassVar[str] = "RequestAuthentication"

    spec: RequestAuthenticationSpec = field(default_factory=RequestAuthenticationSpec)
    status: IstioStatus = field(default_factory=dict)
