"""Reads secrets: SDS files in DiscoveryResponse form and the data sources inside them.

MUST NOT log or put into an error what a file holds: names and reasons only.
"""

from __future__ import annotations

import os
from pathlib import Path

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse

from mesh.proxy import decode
from mesh.proxy.decode import DecodeError

LARGEST_FILE = 1024 * 1024


class SecretError(Exception):
    """A secret cannot be had. `str()` names the file or secret and the reason, never its content."""


def content(source: DataSource) -> bytes:
    """The bytes that a DataSource stands for; empty if it says nothing. Raises SecretError."""
    match source.WhichOneof("specifier"):
        case None:
            return b""
        case "inline_bytes":
            return bytes(source.inline_bytes)
        case "inline_string":
            return str(source.inline_string).encode()
        case "environment_variable":
            value = os.environ.get(source.environment_variable)
            if value is None:
                raise SecretError(f"environment variable {source.environment_variable} is not set")
            return value.encode()
        case _:
            return _read(Path(source.filename))


def read(path: Path, name: str) -> tuple[Secret, str]:
    """The secret `name` of the SDS file at `path`, with its files' content, and the version. Raises SecretError."""
    response = DiscoveryResponse()
    try:
        decode.parse(_read(path).decode("utf-8"), response, str(path))
    except UnicodeDecodeError as error:
        raise SecretError(f"{path}: not UTF-8 text") from error
    except DecodeError as error:
        # The reason may quote a value, and the value may be a key.
        raise SecretError(f"{path}: not a DiscoveryResponse with Secrets") from error
    for packed in response.resources:
        secret = Secret()
        if packed.Unpack(secret) and secret.name == name:
            return inlined(secret), response.version_info
    raise SecretError(f"{path}: holds no secret called {name!r}")


def inlined(secret: Secret) -> Secret:
    """A copy of `secret` whose data sources are all `inline_bytes`. Raises SecretError."""
    copy = Secret()
    copy.CopyFrom(secret)
    for source in _sources(copy):
        if source.WhichOneof("specifier") is not None:
            source.inline_bytes = content(source)
    return copy


def _sources(secret: Secret) -> list[DataSource]:
    match secret.WhichOneof("type"):
        case "tls_certificate":
            return [secret.tls_certificate.certificate_chain, secret.tls_certificate.private_key]
        case "validation_context":
            return [secret.validation_context.trusted_ca]
        case _:
            return []


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SecretError(f"{path}: {error.strerror}") from error
    if len(data) > LARGEST_FILE:
        raise SecretError(f"{path}: larger than {LARGEST_FILE} bytes")
    return data
