"""Secret: what Kubernetes asks of one. No message tells anything of its values."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Final

from mesh.api.core import TLS_TYPE, Secret
from mesh.config.rules.checks import Place

_REQUIRED: Final = ("tls.crt", "tls.key")
_PEM: Final = frozenset((*_REQUIRED, "ca.crt", "cert", "key", "cacert"))


def check_secret(resource: Secret, at: Place) -> None:
    """`at` is the place of `spec`, which a Secret has none of."""
    top = Place(at.problems)
    for name, text in resource.data.items():
        try:
            _check_pem(name, b64decode(text, validate=True), top / "data" / name)
        except binascii.Error:
            (top / "data" / name).refuse("is not base64; give plain text in stringData")
    for name, text in resource.string_data.items():
        _check_pem(name, text.encode(), top / "stringData" / name)
    if resource.type == TLS_TYPE:
        for name in _REQUIRED:
            if name not in resource.data and name not in resource.string_data:
                (top / "data").refuse(f"{name} is required in a Secret of type {TLS_TYPE}")


def _check_pem(name: str, value: bytes, at: Place) -> None:
    if name in _PEM and b"-----BEGIN " not in value:
        at.refuse("is not PEM (-----BEGIN ...)")
