"""`/certs`: the certificates and authorities in use, and until when they are valid."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from envoy.config.core.v3.base_pb2 import DataSource

from mesh.proxy.operations import references
from mesh.proxy.operations.admin.page import Page, Reply, Request, Sidecar, json_reply
from mesh.proxy.operations.configuration import Configuration
from mesh.proxy.tls.secrets import SecretError, content
from mesh.proxy.tls.x509 import Certificate, CertificateError, certificates

Tree = dict[str, Any]


async def answer(sidecar: Sidecar, _: Request) -> Reply:
    found: list[Tree] = []
    for ca, chain in _pairs(sidecar.configuration):
        entry = {"ca_cert": _details(ca), "cert_chain": _details(chain)}
        if entry not in found and any(entry.values()):
            found.append(entry)
    return json_reply({"certificates": found})


def _pairs(configuration: Configuration) -> Iterator[tuple[DataSource, DataSource]]:
    """(trusted authority, certificate chain) of every TLS context, as Envoy lists them."""
    known = configuration.accepted.secrets
    for context in references.tls_contexts(configuration.accepted):
        chains = [pair.certificate_chain for pair in context.tls_certificates]
        named = (config.name for config in context.tls_certificate_sds_secret_configs)
        chains += [known[name].tls_certificate.certificate_chain for name in named if name in known]
        validation, sds = references.validation_of(context)
        trust = known[sds].validation_context if sds in known else validation
        yield from ((trust.trusted_ca, chain) for chain in chains or [DataSource()])


def _details(source: DataSource) -> list[Tree]:
    try:
        found = certificates(content(source))
    except (SecretError, CertificateError):  # nothing that could be shown; the log said so when it was loaded
        return []
    return [_detail(each, source.filename or "<inline>") for each in found]


def _detail(certificate: Certificate, path: str) -> Tree:
    left = certificate.not_after - datetime.now(UTC)
    return {
        "path": path,
        "serial_number": f"{certificate.serial:x}",
        "subject_alt_names": [{kind: value} for kind, value in certificate.names],
        "days_until_expiration": str(max(0, left.days)),
        "valid_from": certificate.not_before.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "expiration_time": certificate.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


PAGES = (Page("/certs", "print certs on machine", answer),)
