"""One connection to a pod's port, with whatever certificate, and why it was refused if it was."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Literal

from chaos.wrong_certificates import Identity, IdentityFiles

# What the sidecars of the mesh offer (Istio's ALPN for mutual TLS); a PERMISSIVE port tells them by it.
MESH_ALPN = ["istio"]
# OpenSSL's names of the alerts that a server sends when it rejects a client's certificate (RFC 8446, 6.2).
ALERTS = {
    "TLSV1_ALERT_UNKNOWN_CA": "unknown authority",
    "TLSV1_UNKNOWN_CA": "unknown authority",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "certificate expired",
    "SSL/TLS_ALERT_CERTIFICATE_EXPIRED": "certificate expired",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a connection went: the response's status, or 0 and the reason on the client's side."""

    status: int
    reason: str = ""

    def describe(self) -> str:
        """For people."""
        return f"status {self.status}" if self.status else f"refused: {self.reason}"


def attempt(host: str, port: int, path: str, who: Identity | Literal["plaintext"] | None, timeout_s: float) -> Attempt:
    """Connects, sends one GET, and reads its status line."""
    try:
        with socket.create_connection((host, port), timeout_s) as raw:
            if who == "plaintext":
                return _exchange(raw, host, path)
            with _context(who).wrap_socket(raw, server_hostname=f"{host}.invalid") as secured:
                return _exchange(secured, host, path)
    except ssl.SSLError as error:
        return Attempt(0, ALERTS.get(error.reason or "", "refused after handshake"))
    except TimeoutError:
        return Attempt(0, f"no answer within {timeout_s:g} s")
    except OSError:
        return Attempt(0, "connection reset")


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
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    head = connection.recv(4096)
    if not head:
        return Attempt(
            0, "connection reset" if not isinstance(connection, ssl.SSLSocket) else "refused after handshake"
        )
    fields = head.split(b" ", 2)
    return Attempt(int(fields[1])) if len(fields) == 3 and fields[1].isdigit() else Attempt(0, "not an HTTP response")
