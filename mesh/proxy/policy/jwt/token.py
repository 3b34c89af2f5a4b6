"""One token: its three parts, and what must hold of them whoever signed it. The texts are Envoy's."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from math import isfinite
from typing import Any

MISSED = "Jwt is missing"
NOT_YET_VALID = "Jwt not yet valid"
EXPIRED = "Jwt is expired"
BAD_FORMAT = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
UNKNOWN_ISSUER = "Jwt issuer is not configured"
AUDIENCE_NOT_ALLOWED = "Audiences in Jwt are not allowed"
VERIFICATION_FAILED = "Jwt verification fails"
NO_MATCHING_KEY = "Jwks doesn't have key to match kid or alg from Jwt"
NO_VALID_KEYS = "Jwks doesn't have any valid public key"
UNSOUND_CLAIM = "invalid header value for: "
FETCH_FAILED = "Jwks remote fetch is failed"

ALGORITHMS = frozenset(
    ("ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
     "EdDSA")
)  # fmt: skip
_MAX_SECONDS = 1 << 63
MAX_DEPTH = 100  # of arrays and objects in each other, as protobuf has it


class JwtError(Exception):
    """The token is not good; `str()` says why, in Envoy's words."""


class Token:
    """A token that is well-formed. Nothing of it is proved yet. `signed` is what the signature is of."""

    __slots__ = (
        "alg",
        "audiences",
        "header",
        "issuer",
        "kid",
        "payload",
        "payload_text",
        "signature",
        "signed",
        "text",
    )

    def __init__(self, text: bytes) -> None:
        """Raises JwtError."""
        parts = text.split(b".")
        if len(parts) != 3:
            raise JwtError(BAD_FORMAT)
        self.text = text
        self.signed = text[: len(parts[0]) + len(parts[1]) + 1]
        self.header = _json(parts[0], "header")
        self.alg = self._algorithm()
        kid = self.header.get("kid", "")
        if not isinstance(kid, str):
            raise JwtError("Jwt header [kid] field is not a string")
        self.kid: str = kid
        self.payload_text = parts[1]
        self.payload = _json(parts[1], "payload")
        self._check_claims()
        self.issuer: str = self.payload.get("iss", "")
        aud = self.payload.get("aud", [])
        self.audiences: list[str] = [aud] if isinstance(aud, str) else aud
        try:
            self.signature = decode_base64url(parts[2])
        except ValueError:
            raise JwtError("Jwt signature is an invalid Base64url encoded") from None

    def _algorithm(self) -> str:
        alg = self.header.get("alg")
        if not isinstance(alg, str):
            raise JwtError("Jwt header [alg] field is required and must be a string")
        if alg not in ALGORITHMS:
            raise JwtError("Jwt header [alg] is not supported")
        return alg

    def _check_claims(self) -> None:
        payload = self.payload
        for name in ("iss", "sub"):
            if not isinstance(payload.get(name, ""), str):
                raise JwtError(f"Jwt payload [{name}] field is not a string")
        for name in ("iat", "nbf", "exp"):
            _check_time(name, payload.get(name, 0))
        if not isinstance(payload.get("jti", ""), str):
            raise JwtError("Jwt payload [jti] field is not a string")
        aud = payload.get("aud", "")
        if not isinstance(aud, str) and not (isinstance(aud, list) and all(isinstance(each, str) for each in aud)):
            raise JwtError("Jwt payload [aud] field is not a string or string list")

    def check_time(self, now: float, skew: float) -> None:
        """Raises JwtError. Without a claim there is no limit."""
        if "nbf" in self.payload and now + skew < self.payload["nbf"]:
            raise JwtError(NOT_YET_VALID)
        if "exp" in self.payload and now > self.payload["exp"] + skew:
            raise JwtError(EXPIRED)

    def claim(self, path: list[str]) -> Any:
        """The value at `path`, None if it is absent."""
        value: Any = self.payload
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value


def _check_time(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise JwtError(f"Jwt payload [{name}] field is not an integer")
    if not 0 <= value < _MAX_SECONDS:
        raise JwtError(f"Jwt payload [{name}] field is not a positive 64 bit integer")


def _json(part: bytes, name: str) -> dict[str, Any]:
    try:
        text = decode_base64url(part)
    except ValueError:
        raise JwtError(f"Jwt {name} is an invalid Base64url encoded") from None
    try:
        value = json.loads(text.decode(), parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_members)
        if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            raise ValueError("too deep")
        # An escaped half of a surrogate pair is no text that could be compared or passed on.
        if b"\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise JwtError(f"Jwt {name} is an invalid JSON")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are all different: of two, another reader might believe the other."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate names")
    return members


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(text)
    return value


def _depth(value: Any) -> int:
    """How deep arrays and objects stand in each other. No deeper than what json could read."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _refuse(constant: str) -> None:
    raise ValueError(constant)


_TO_STANDARD: Callable[[bytes], bytes] = lambda text: text.replace(b"-", b"+").replace(b"_", b"/")  # noqa: E731


def decode_base64url(text: bytes) -> bytes:
    """RFC 4648 section 5 without padding. Raises ValueError."""
    if b"+" in text or b"/" in text or b"=" in text or len(text) % 4 == 1:
        raise ValueError("not base64url")
    return base64.b64decode(_TO_STANDARD(text) + b"=" * (-len(text) % 4), validate=True)
