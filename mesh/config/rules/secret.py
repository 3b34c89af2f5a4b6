"""Secret: what Kubernetes asks of one. No message tells anything of its values."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Final

from mesh.api.core import TLS_TYPE, Secret
from mesh.config.rules.checks import Place, check_keys

_REQUIRED: Final = ("tls.crt", "tls.key")
_PEM: Final = frozenset((*_REQUIRED, "ca.crt", "cacert"))
_PAIR: Final = frozenset(("cert", "key"))
"""Istio's other names for a gateway's certificate and key. One alone is anything, such as the key of an API."""


def check_secret(resource: Secret, at: Place) -> None:
    """`at` is the place of `spec`, which a Secret has none of."""
    top = Place(at.problems)
    check_keys(resource.data, top / "data")
    check_keys(resource.string_data, top / "stringData")
    pem = _PEM | _PAIR if resource.data.keys() | resource.string_data.keys() >= _PAIR else _PEM
    for name, text in resource.data.items():
        try:
            value = b64decode(text, validate=True)
        except binascii.Error:
            (top / "data" / name).refuse("is not base64; give plain text in stringData")
        else:
            _check_pem(name in pem, value, top / "data" / name)
    for name, text in resource.string_data.items():
        _check_pem(name in pem, text.encode(), top / "stringData" / name)
    if resource.type == TLS_TYPE:
        for name in _REQUIRED:
            if name not in resource.data and name not in resource.string_data:
                (top / "data").refuse(f"{name} is required in a Secret of type {TLS_TYPE}")


def _check_pem(wanted: bool, value: bytes, at: Place) -> None:
    if wanted and b"-----BEGIN " not in value:
        at.refuse("is not PEM (-----BEGIN ...)")
