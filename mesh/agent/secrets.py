"""Key and certificates as Envoy's file-based SDS reads them: one discovery response a file, replaced whole."""

import json
import os
from pathlib import Path
from typing import Any

_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name


def key_pair(key: str, chain: tuple[str, ...]) -> dict[str, Any]:
    """The secret `default`: private key and chain, both PEM, leaf first."""
    return {
        "name": "default",
        "tls_certificate": {
            "certificate_chain": {"inline_string": "".join(chain)},
            "private_key": {"inline_string": key},
        },
    }


def trust(root: str) -> dict[str, Any]:
    """The secret `ROOTCA`: whom to trust, PEM."""
    return {"name": "ROOTCA", "validation_context": {"trusted_ca": {"inline_string": root}}}


def write_secret(folder: Path, secret: dict[str, Any]) -> None:
    """`<folder>/<name>.json`, 0600, by rename: a reader sees the old file or the new one, never a part."""
    document = {"resources": [{"@type": _SECRET, **secret}]}
    write_private(folder / f"{secret['name']}.json", json.dumps(document))


def write_private(file: Path, text: str) -> None:
    """A whole file, 0600, by rename."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = file.with_name(f".{file.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w") as target:
        target.write(text)
    temporary.rename(file)
