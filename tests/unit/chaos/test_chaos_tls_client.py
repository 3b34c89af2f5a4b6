"""Why a connection was refused, against real TLS servers; and what is no refusal at all."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chaos.errors import CannotMeasure
from chaos.tls_client import attempt
from chaos.wrong_certificates import Identity

NOW = datetime.datetime.now(datetime.UTC)
BOUND_S = 5.0


class Authority:
    """Signs identities with one key."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.key.public_key(), self.name, NOW + datetime.timedelta(days=1), is_ca=True)

    def identity(self, *, expired: bool = False) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        end = NOW - datetime.timedelta(hours=1) if expired else NOW + datetime.timedelta(days=1)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
        return Identity(pem.decode(), self._sign(key.public_key(), subject, end, is_ca=False))

    def _sign(self, key: ec.EllipticCurvePublicKey, subject: x509.Name, end: datetime.datetime, *, is_ca: bool) -> str:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(hours=2))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


MESH, STRANGER = Authority("mesh"), Authority("stranger")


@contextmanager
def listening(serve: object) -> Iterator[int]:
    """Calls `serve` with each accepted connection, on a thread of its own, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    serve(connection)  # type: ignore[operator]

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[int]:
    """A port that asks each client for a certificate of the mesh, and serves those who have one."""
    own = MESH.identity()
    (tmp_path / "server.pem").write_text(own.key + own.chain)
    (tmp_path / "root.pem").write_text(MESH.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.load_verify_locations(tmp_path / "root.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    def serve(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(4096)
                secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        except OSError:
            return  # refused: what the client makes of it is the test

    with listening(serve) as port:
        yield port


@pytest.mark.parametrize("time", range(5))
@pytest.mark.parametrize(
    ("who", "reason"),
    [
        (None, "certificate required"),
        (STRANGER.identity(), "unknown authority"),
        (MESH.identity(expired=True), "certificate expired"),
    ],
)
def test_each_bad_client_is_refused_for_its_own_reason_each_time(
    strict: int, who: Identity | None, reason: str, time: int
) -> None:
    made = attempt("127.0.0.1", strict, "/", who, BOUND_S)
    assert (made.status, made.refused, made.failed) == (0, reason, "")


def test_plaintext_is_refused_by_the_connections_end(strict: int) -> None:
    assert attempt("127.0.0.1", strict, "/", "plaintext", BOUND_S).refused == "connection reset"


def test_a_client_of_the_mesh_is_served(strict: int) -> None:
    assert attempt("127.0.0.1", strict, "/", MESH.identity(), BOUND_S).status == 204


def test_a_port_that_speaks_no_tls_has_refused_nobody() -> None:
    with listening(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        made = attempt("127.0.0.1", port, "/", MESH.identity(), BOUND_S)
    assert (made.status, made.refused) == (0, "")
    assert made.failed


def test_what_is_no_http_was_not_refused_either() -> None:
    with listening(lambda connection: connection.sendall(b"220 mail\r\n")) as port:
        made = attempt("127.0.0.1", port, "/", "plaintext", BOUND_S)
    assert (made.refused, made.failed) == ("", "the answer is not HTTP")


def test_silence_is_no_refusal() -> None:
    over = threading.Event()
    with listening(lambda _: over.wait(BOUND_S)) as port:
        made = attempt("127.0.0.1", port, "/", "plaintext", 0.1)
        over.set()
    assert made.failed == "no answer within 0.1 s"


def test_where_nobody_listens_nothing_is_measured() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(CannotMeasure, match=f"no connection to 127.0.0.1:{port}"):
        attempt("127.0.0.1", port, "/", "plaintext", BOUND_S)
