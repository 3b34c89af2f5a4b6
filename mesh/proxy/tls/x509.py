"""What `/certs` shows of a certificate, read from its DER.

A library for X.509 would cost the sidecar 11 MiB the first time somebody looks at one page. Nothing is verified here;
OpenSSL does that. MUST NOT do I/O.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_SUBJECT_ALT_NAME = bytes((0x55, 0x1D, 0x11))  # 2.5.29.17

# DER tags (X.690) of what is read here.
_INTEGER, _OCTETS, _OBJECT_ID, _UTC_TIME, _SEQUENCE = 0x02, 0x04, 0x06, 0x17, 0x30
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_DNS, _URI, _IP = 0x82, 0x86, 0x87  # GeneralName, RFC 5280 section 4.2.1.6


class CertificateError(ValueError):
    """The bytes are not a certificate."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """`names` are (kind, value) with Envoy's kinds `dns`, `uri` and `ip_address`."""

    serial: int
    not_before: datetime
    not_after: datetime
    names: tuple[tuple[str, str], ...]


def certificates(pem: bytes) -> list[Certificate]:
    """Every certificate in PEM text, in order. Raises CertificateError."""
    try:
        return [_certificate(base64.b64decode(body)) for body in _PEM.findall(pem)]
    except (IndexError, ValueError, binascii.Error) as error:
        raise CertificateError("not a certificate") from error


def public_key(der: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate, as DER. Raises CertificateError."""
    try:
        fields = list(_elements(_first(_first(der, _SEQUENCE), _SEQUENCE)))
        tag, body = fields[6 if fields[0][0] == _VERSION else 5]
    except (IndexError, ValueError) as error:
        raise CertificateError("not a certificate") from error
    size = len(body)
    length = bytes((size,)) if size < 0x80 else bytes((0x80 | (size.bit_length() + 7) // 8,))
    if size >= 0x80:
        length += size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag,)) + length + body


def _certificate(der: bytes) -> Certificate:
    """RFC 5280 section 4.1: Certificate, then TBSCertificate, then its fields in order."""
    fields = list(_elements(_first(_first(der, _SEQUENCE), _SEQUENCE)))
    if fields[0][0] == _VERSION:
        del fields[0]
    extensions = next((body for tag, body in fields if tag == _EXTENSIONS), b"")
    serial, (_, validity) = fields[0], fields[3]
    begin, end = (_time(tag, body) for tag, body in _elements(validity))
    return Certificate(_expect(serial, _INTEGER), begin, end, tuple(_names(extensions)))


def _names(extensions: bytes) -> Iterator[tuple[str, str]]:
    for _, extension in _elements(_first(extensions, _SEQUENCE)) if extensions else ():
        parts = list(_elements(extension))
        if parts[0] == (_OBJECT_ID, _SUBJECT_ALT_NAME):
            for tag, body in _elements(_first(parts[-1][1], _SEQUENCE)):
                if tag in (_DNS, _URI):
                    yield "dns" if tag == _DNS else "uri", body.decode("ascii")
                elif tag == _IP:
                    yield "ip_address", str(ip_address(body))


def _time(tag: int, body: bytes) -> datetime:
    text = body.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _expect(element: tuple[int, bytes], tag: int) -> int:
    if element[0] != tag:
        raise ValueError(f"tag {element[0]} where {tag} should be")
    return int.from_bytes(element[1], "big", signed=True)


def _first(data: bytes, tag: int) -> bytes:
    found, body = next(_elements(data))
    if found != tag:
        raise ValueError(f"tag {found} where {tag} should be")
    return body


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, content) of each element in `data`; DER's definite lengths only."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("an element is cut short")
        yield tag, data[at : at + length]
        at += length
