"""An issuer of JSON Web Tokens: real keys, real signatures (ES256)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

_WIDTH = 32


class Issuer:
    """Signs claims in its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def jwks(self) -> str:
        numbers = self._key.public_key().public_numbers()
        point = {"x": _text(numbers.x.to_bytes(_WIDTH, "big")), "y": _text(numbers.y.to_bytes(_WIDTH, "big"))}
        return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "1", **point}]})

    def token(self, subject: str, **claims: Any) -> str:
        head = _json({"alg": "ES256", "typ": "JWT", "kid": "1"})
        signed = f"{head}.{_json({'iss': self.name, 'sub': subject, **claims})}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_text(r.to_bytes(_WIDTH, 'big') + s.to_bytes(_WIDTH, 'big'))}"


def _json(value: dict[str, Any]) -> str:
    return _text(json.dumps(value).encode())


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
