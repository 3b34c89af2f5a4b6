"""JSON Web Key Sets (RFC 7517) and the signatures that they prove."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from mesh.proxy.policy.jwt.token import (
    NO_MATCHING_KEY,
    NO_VALID_KEYS,
    VERIFICATION_FAILED,
    JwtError,
    Token,
    decode_base64url,
)

_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: dict[str, tuple[ec.EllipticCurve, str]] = {
    "P-256": (ec.SECP256R1(), "ES256"), "P-384": (ec.SECP384R1(), "ES384"), "P-521": (ec.SECP521R1(), "ES512"),
}  # fmt: skip
_ED25519_SIGNATURE = 64

Verify = Callable[[Token], bool]


@dataclass(frozen=True, slots=True)
class Key:
    """One key. Empty `kid` and `alg` match every token's."""

    kid: str
    alg: str
    verify: Verify


class Jwks:
    """A set of keys."""

    __slots__ = ("_keys",)

    def __init__(self, text: bytes) -> None:
        """Raises JwtError. Keys that cannot be used are passed over, as long as there is one that can."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise JwtError("Jwks is an invalid JSON") from None
        keys = found.get("keys") if isinstance(found, dict) else None
        if not isinstance(keys, list):
            raise JwtError("Jwks does not have [keys] field")
        made = [_key(each) for each in keys if isinstance(each, dict)]
        self._keys = [each for each in made if each is not None]
        if not self._keys:
            raise JwtError(NO_VALID_KEYS)

    def check(self, token: Token) -> None:
        """Raises JwtError unless one of the keys has signed the token."""
        status = NO_MATCHING_KEY
        for key in self._keys:
            if (key.kid and token.kid and key.kid != token.kid) or (key.alg and key.alg != token.alg):
                continue
            if key.verify(token):
                return
            status = VERIFICATION_FAILED
        raise JwtError(status)


def _key(values: dict[str, Any]) -> Key | None:
    make = _MAKERS.get(values.get("kty", ""))
    if make is None:
        return None
    kid, alg = values.get("kid", ""), values.get("alg", "")
    if not isinstance(kid, str) or not isinstance(alg, str):
        return None
    try:
        verify = make(values)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Key(kid, alg, verify) if verify is not None else None


def _number(values: dict[str, Any], name: str) -> int:
    return int.from_bytes(decode_base64url(values[name].encode()), "big")


def _rsa(values: dict[str, Any]) -> Verify | None:
    key = rsa.RSAPublicNumbers(_number(values, "e"), _number(values, "n")).public_key()

    def verify(token: Token) -> bool:
        kind, size = token.alg[:2], token.alg[2:]
        if kind not in ("RS", "PS"):
            return False
        digest = _HASHES[size]
        pad: Any = padding.PKCS1v15()
        if kind == "PS":
            pad = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
        return _holds(lambda: key.verify(token.signature, token.signed, pad, digest))

    return verify


def _elliptic(values: dict[str, Any]) -> Verify | None:
    curve, alg = _CURVES[values.get("crv", "P-256")]
    key = ec.EllipticCurvePublicNumbers(_number(values, "x"), _number(values, "y"), curve).public_key()
    size = (curve.key_size + 7) // 8
    digest = ec.ECDSA(_HASHES[alg[2:]])

    def verify(token: Token) -> bool:
        if token.alg != alg or len(token.signature) != 2 * size:
            return False
        r, s = (int.from_bytes(half, "big") for half in (token.signature[:size], token.signature[size:]))
        return _holds(lambda: key.verify(utils.encode_dss_signature(r, s), token.signed, digest))

    return verify


def _octets(values: dict[str, Any]) -> Verify | None:
    secret = decode_base64url(values["k"].encode())

    def verify(token: Token) -> bool:
        if token.alg[:2] != "HS":
            return False
        return hmac.compare_digest(
            hmac.digest(secret, token.signed, getattr(hashlib, f"sha{token.alg[2:]}")), token.signature
        )

    return verify


def _edwards(values: dict[str, Any]) -> Verify | None:
    if values["crv"] != "Ed25519":
        return None
    key = ed25519.Ed25519PublicKey.from_public_bytes(decode_base64url(values["x"].encode()))

    def verify(token: Token) -> bool:
        if token.alg != "EdDSA":
            return False
        if len(token.signature) != _ED25519_SIGNATURE:
            raise JwtError("Jwt ED25519 signature is wrong length")
        return _holds(lambda: key.verify(token.signature, token.signed))

    return verify


def _holds(check: Callable[[], None]) -> bool:
    try:
        check()
    except InvalidSignature:
        return False
    return True


_MAKERS: dict[str, Callable[[dict[str, Any]], Verify | None]] = {
    "RSA": _rsa, "EC": _elliptic, "oct": _octets, "OKP": _edwards
}  # fmt: skip
