"""Keys and certificates that Gateways name by `credentialName`, from Secrets of the gateway's own namespace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mesh.api.core import Secret

TRUST_SUFFIX: Final = "-cacert"
_CHAIN: Final = ("tls.crt", "cert")
_KEY: Final = ("tls.key", "key")
_TRUST: Final = ("ca.crt", "cacert")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM. Not shown where a value is printed."""

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CredentialIndex:
    """Secrets by namespace and name."""

    secrets: Mapping[tuple[str, str], Secret] = field(default_factory=dict, repr=False)

    def pair(self, namespace: str, name: str) -> KeyPair | None:
        """Key and chain of a credential; None while there are none."""
        secret = self.secrets.get((namespace, name))
        chain, key = _entry(secret, _CHAIN), _entry(secret, _KEY)
        return KeyPair(chain, key) if chain and key else None

    def trust(self, namespace: str, name: str) -> bytes:
        """Authorities of clients: those of `<name>-cacert`, else of the credential itself; empty if there are none."""
        own = self.secrets.get((namespace, f"{name}{TRUST_SUFFIX}"))
        return _entry(own, _TRUST) or _entry(self.secrets.get((namespace, name)), _TRUST)


def index(secrets: Iterable[Secret]) -> CredentialIndex:
    return CredentialIndex({(own.namespace, own.name): own for own in secrets})


def _entry(secret: Secret | None, names: Iterable[str]) -> bytes:
    """The first of these entries that is there."""
    entries = {} if secret is None else secret.entries
    return next((entries[name] for name in names if name in entries), b"")
