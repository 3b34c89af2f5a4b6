"""One connection to a pod's port, with whatever certificate, and why it was refused if it was."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Literal

from chaos.errors import CannotMeasure
from chaos.wrong_certificates import Identity, IdentityFiles

# What the sidecars of the mesh offer (Istio's ALPN for mutual TLS); a PERMISSIVE port tells them by it.
MESH_ALPN = ["istio"]
CLOSED = "connection reset"
# OpenSSL's names of the alerts that a server sends when it rejects a client's certificate (RFC 8446, 6.2).
ALERTS = {
    "TLSV1_ALERT_UNKNOWN_CA": "unknown authority",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "certificate expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "certificate unknown",
    "SSLV3_ALERT_BAD_CERTIFICATE": "bad certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "handshake failure",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "certificate required",
    "UNEXPECTED_EOF_WHILE_READING": CLOSED,
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a connection went: the response's status; or 0, and either how the server `refused` or how it `failed`."""

    status: int = 0
    refused: str = ""
    failed: str = ""

    def describe(self) -> str:
        """For people."""
        if self.status:
            return f"status {self.status}"
        return f"refused: {self.refused}" if self.refused else f"failed: {self.failed}"


def attempt(host: str, port: int, path: str, who: Identity | Literal["plaintext"] | None, timeout_s: float) -> Attempt:
    """Connects, sends one GET, and reads its status line. CannotMeasure where nobody listens."""
    try:
        raw = socket.create_connection((host, port), timeout_s)
    except OSError as error:
        raise CannotMeasure(f"no connection to {host}:{port}: {error}") from error
    with raw:
        try:
            if who == "plaintext":
                return _exchange(raw, host, path)
            with _context(who).wrap_socket(raw, server_hostname=f"{host}.invalid") as secured:
                return _exchange(secured, host, path)
        except ssl.SSLError as error:
            return _refusal(error)
        except TimeoutError:
            return Attempt(failed=f"no answer within {timeout_s:g} s")
        except OSError:
            return Attempt(refused=CLOSED)


def _refusal(error: ssl.SSLError) -> Attempt:
    """Only what a server says or does to this client is a refusal; a port that speaks no TLS has refused nobody."""
    reason = error.reason or ""
    if reason in ALERTS or isinstance(error, ssl.SSLEOFError):
        return Attempt(refused=ALERTS.get(reason, CLOSED))
    if "ALERT" in reason:
        return Attempt(refused=reason.partition("ALERT_")[2].lower().replace("_", " "))
    return Attempt(failed=f"{reason.lower().replace('_', ' ') or error}")


def _context(who: Identity | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The question is whether the pod admits this client; that clients verify pods is the sidecars' own business.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(MESH_ALPN)
    if who is not None:
        with IdentityFiles(who) as path:
            context.load_cert_chain(path)
    return context


def _exchange(connection: socket.socket, host: str, path: str) -> Attempt:
    try:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    except (ConnectionError, ssl.SSLEOFError):
        # In TLS 1.3 the server judges the certificate when the client is done with the handshake. Its alert may be here
        # already, and tells more than the broken pipe.
        pass
    with connection.makefile("rb") as answer:
        line = answer.readline(256)
    if not line:
        return Attempt(refused=CLOSED)
    words = line.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return Attempt(failed="the answer is not HTTP")
    return Attempt(status=int(words[1]))
