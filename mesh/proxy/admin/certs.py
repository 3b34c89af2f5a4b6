"""`/certs`: the certificates and authorities in use, and until when they are valid."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from envoy.config.core.v3.base_pb2 import DataSource

from mesh.proxy import references
from mesh.proxy.admin.page import Page, Reply, Request, Sidecar, json_reply
from mesh.proxy.configuration import Configuration
from mesh.proxy.secrets import SecretError, content

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
    # Imported here: it is several MiB, and this page is asked for rarely.
    from cryptography import x509  # noqa: PLC0415

    try:
        return [_detail(each, source) for each in x509.load_pem_x509_certificates(content(source))]
    except (SecretError, ValueError):  # no certificate there, or none that can be read
        return []


def _detail(certificate: Any, source: DataSource) -> Tree:
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    return {
        "path": source.filename or "<inline>",
        "serial_number": f"{certificate.serial_number:x}",
        "subject_alt_names": _names(certificate),
        "days_until_expiration": str(max(0, left.days)),
        "valid_from": certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "expiration_time": certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _names(certificate: Any) -> list[Tree]:
    from cryptography import x509  # noqa: PLC0415

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    labels = ((x509.DNSName, "dns"), (x509.UniformResourceIdentifier, "uri"), (x509.IPAddress, "ip_address"))
    return [{label: str(value)} for kind, label in labels for value in names.get_values_for_type(kind)]


PAGES = (Page("/certs", "print certs on machine", answer),)
