"""Workload tokens: what a pod shows to be given a certificate.

A JSON Web Token (RFC 7519) in compact form, signed with HS256 (RFC 7518 section 3.2) by a key that never leaves the
control plane: issuer and verifier are the same process, so nothing asymmetric is needed. Claims are those of a
Kubernetes bound service account token. Only the one header that we write is accepted, so there is no algorithm to
confuse (RFC 8725 section 3.1).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mesh.ca.errors import TokenError, ValidityError
from mesh.ca.identity import PodIdentity

AUDIENCE = "meshdrill-ca"
ISSUER = "meshdrill"
DEFAULT_TOKEN_TTL = timedelta(days=1)
MIN_TOKEN_TTL = timedelta(minutes=10)  # Kubernetes' own floor for `spec.expirationSeconds`
MAX_TOKEN_TTL = timedelta(days=7)
MAX_TOKEN_BYTES = 4096


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


_HEADER = _encode(b'{"alg":"HS256","typ":"JWT"}')


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token in compact form and the end of its life (aware, UTC)."""

    token: str
    expires_at: datetime


class TokenAuthority:
    """Issues and verifies workload tokens with one secret key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, pod: PodIdentity, ttl: timedelta, now: datetime) -> IssuedToken:
        """A token for `pod`, good for `ttl` from `now`. Raises ValidityError outside MIN_TOKEN_TTL..MAX_TOKEN_TTL."""
        if not MIN_TOKEN_TTL <= ttl <= MAX_TOKEN_TTL:
            raise ValidityError(
                f"a token lives between {MIN_TOKEN_TTL.total_seconds():.0f} and {MAX_TOKEN_TTL.total_seconds():.0f} "
                f"seconds, not {ttl.total_seconds():.0f}"
            )
        issued = int(now.timestamp())
        expires = issued + int(ttl.total_seconds())
        signed = _HEADER + b"." + _encode(json.dumps(_claims(pod, issued, expires), separators=(",", ":")).encode())
        token = signed + b"." + _encode(self._sign(signed))
        return IssuedToken(token.decode(), datetime.fromtimestamp(expires, UTC))

    def verify(self, token: str, now: datetime) -> PodIdentity:
        """The pod that `token` proves. Raises TokenError; its message never repeats the token."""
        claims = self._signed_claims(token)
        if claims.get("iss") != ISSUER or claims.get("aud") != [AUDIENCE]:
            raise TokenError(f"the token is not for {AUDIENCE}")
        pod = _pod(claims)
        if not _instant(claims, "nbf") <= now.timestamp() < _instant(claims, "exp"):
            raise TokenError(f"the token of pod {pod.namespace}/{pod.pod_name} has expired, or is not valid yet")
        return pod

    def _signed_claims(self, token: str) -> dict[str, object]:
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise TokenError("the token is malformed")
        signed, _, signature = token.encode().rpartition(b".")
        header, _, payload = signed.partition(b".")
        # The signature is compared in its encoded form, so that a token has exactly one spelling.
        if header != _HEADER or not hmac.compare_digest(signature, _encode(self._sign(signed))):
            raise TokenError("the token was not signed by this mesh")
        try:
            claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
        except (binascii.Error, ValueError) as error:
            raise TokenError("the token is malformed") from error
        if not isinstance(claims, dict):
            raise TokenError("the token is malformed")
        return claims

    def _sign(self, signed: bytes) -> bytes:
        return hmac.digest(self._key, signed, hashlib.sha256)


def _claims(pod: PodIdentity, issued: int, expires: int) -> dict[str, object]:
    return {
        "iss": ISSUER,
        "aud": [AUDIENCE],
        "sub": f"system:serviceaccount:{pod.namespace}:{pod.service_account}",
        "iat": issued,
        "nbf": issued,
        "exp": expires,
        "kubernetes.io": {
            "namespace": pod.namespace,
            "serviceaccount": {"name": pod.service_account},
            "pod": {"name": pod.pod_name, "uid": pod.pod_uid},
        },
    }


def _pod(claims: dict[str, object]) -> PodIdentity:
    match claims.get("kubernetes.io"):
        case {
            "namespace": str(namespace),
            "serviceaccount": {"name": str(service_account)},
            "pod": {"name": str(name), "uid": str(uid)},
        }:
            return PodIdentity(namespace, service_account, name, uid)
    raise TokenError("the token is bound to no pod")


def _instant(claims: dict[str, object], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int:
        raise TokenError(f"the token has no {name}")
    return value
