"""Credentials that Gateways name, and their gateways do not have."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.api.gateway import ServerTLSSettings
from mesh.config.analyze.message import REFERENCED_RESOURCE_NOT_FOUND, Message, about
from mesh.config.analyze.view import View, matches
from mesh.config.problems import Path


def gateway_credentials(view: View) -> Iterator[Message]:
    """IST0101: no Secret of that name is in the namespace of the pods that carry out the Gateway."""
    for found in view.gateways.values():
        spec = found.resource.spec
        namespaces = {own.namespace for own in view.workloads if matches(spec.selector, own.labels)}
        for index, server in enumerate(spec.servers):
            for path, name in _named(server.tls) if server.tls is not None else ():
                if any((namespace, name) not in view.secrets for namespace in namespaces):
                    text = f'Referenced credentialName not found: "{name}"'
                    text += f" (no Secret of that name in {', '.join(sorted(namespaces))})"
                    place = ("spec", "servers", index, "tls", *path)
                    yield about(found.manifest, place, REFERENCED_RESOURCE_NOT_FOUND, text)


def _named(tls: ServerTLSSettings) -> Iterator[tuple[Path, str]]:
    if tls.credential_name:
        yield ("credentialName",), tls.credential_name
    for index, name in enumerate(tls.credential_names):
        yield ("credentialNames", index), name
    if tls.ca_cert_credential_name:
        yield ("caCertCredentialName",), tls.ca_cert_credential_name
