"""RequestAuthentication: Istio's ValidateRequestAuthentication, and that inline keys can be read."""

from __future__ import annotations

import json
import re
from typing import Final
from urllib.parse import urlsplit

from mesh.api.request_authentication import JWTRule, RequestAuthentication
from mesh.config.rules.checks import MAX_PORT, Place, check_duration, check_header_name, check_selector

_CLAIM: Final = re.compile(r"[^\s.]+(\.[^\s.]+)*")


def check_request_authentication(resource: RequestAuthentication, at: Place) -> None:
    """`at` is the place of `spec`."""
    check_selector(resource.spec.selector, at / "selector")
    for index, rule in enumerate(resource.spec.jwt_rules):
        _check_rule(rule, at / "jwtRules" / index)


def _check_rule(rule: JWTRule, at: Place) -> None:
    if not rule.issuer:
        at.refuse("must have an issuer")
    for index, audience in enumerate(rule.audiences):
        _check_not_empty(audience, at / "audiences" / index)
    if rule.jwks_uri:
        _check_uri(rule.jwks_uri, at / "jwksUri")
    elif rule.jwks:
        _check_keys(rule.jwks, at / "jwks")
    else:
        at.refuse("must have jwks or jwksUri: issuers are not asked where their keys are")
    for index, header in enumerate(rule.from_headers):
        check_header_name(header.name, at / "fromHeaders" / index / "name")
    for name, values in (("fromParams", rule.from_params), ("fromCookies", rule.from_cookies)):
        for index, value in enumerate(values):
            _check_not_empty(value, at / name / index)
    if rule.output_payload_to_header:
        check_header_name(rule.output_payload_to_header, at / "outputPayloadToHeader")
    for index, claim in enumerate(rule.output_claim_to_headers):
        place = at / "outputClaimToHeaders" / index
        check_header_name(claim.header, place / "header")
        if not _CLAIM.fullmatch(claim.claim):
            (place / "claim").refuse("must be the name of a claim, those inside of it after dots")
    for index, claim_name in enumerate(rule.space_delimited_claims):
        _check_not_empty(claim_name, at / "spaceDelimitedClaims" / index)
    check_duration(rule.timeout, at / "timeout")


def _check_not_empty(value: str, at: Place) -> None:
    if not value:
        at.refuse("must not be empty")


def _check_uri(uri: str, at: Place) -> None:
    try:
        parts = urlsplit(uri)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and 0 < (parts.port or 1) <= MAX_PORT
    except ValueError:
        is_usable = False
    if not is_usable:
        at.refuse(f'"{uri}" is not an http:// or https:// address')


def _check_keys(text: str, at: Place) -> None:
    """A JSON Web Key Set (RFC 7517), so far as it can be told without the keys' types."""
    try:
        found = json.loads(text)
    except ValueError as error:
        at.refuse(f"is not JSON: {error}")
        return
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) and key.get("kty") for key in keys):
        at.refuse('must be a JSON Web Key Set: {"keys": [{"kty": ...}]}')
