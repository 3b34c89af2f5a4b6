"""TLS records through the pump, cut where a network may cut them."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mesh.proxy.observe.downstream_counters import ListenerStats
from mesh.proxy.tls.connection import TlsConnection
from mesh.proxy.tls.context import ContextOptions, Pair, Trust, Verify, make_context


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    chain = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return make_context([Pair(chain, private)], Trust(), ContextOptions(server=True, require_peer=False))


class _Raw(asyncio.Transport):
    """The plain transport: keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.largest = 0

    def write(self, data: Any) -> None:
        self.written += data
        self.largest = max(self.largest, len(data))


class _Inner(asyncio.Protocol):
    def __init__(self) -> None:
        self.received: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.received.append(data)


class _Client:
    """A TLS client whose bytes reach the pump as a test says."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.inner = _Inner()
        self.stats = ListenerStats()
        self.raw = _Raw()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.pump = TlsConnection(
            context.wrap_bio(incoming, outgoing, server_side=True), incoming, outgoing,
            verify=Verify(), stats=self.stats, make_inner=lambda _: self.inner,
        )  # fmt: skip
        self.pump.connection_made(self.raw)
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._engine = trusting.wrap_bio(self._incoming, self._outgoing)

    def shake_hands(self, piece: int) -> None:
        """Take all flights to the end, `piece` bytes a read."""
        for _ in range(3):
            try:
                self._engine.do_handshake()
            except ssl.SSLWantReadError:
                pass
            self.send(self._outgoing.read(), piece)
            self._incoming.write(self.raw.written)
            self.raw.written = b""

    def send(self, data: bytes, piece: int) -> None:
        for at in range(0, len(data), piece):
            self.pump.data_received(data[at : at + piece])

    def receive(self, size: int) -> bytes:
        """`size` bytes of what the pump has sent."""
        self._incoming.write(self.raw.written)
        self.raw.written = b""
        received = b""
        while len(received) < size:
            received += self._engine.read(size)
        return received

    def record(self, plain: bytes) -> bytes:
        self._engine.write(plain)
        return self._outgoing.read()


@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 20])
def test_the_handshake_succeeds_however_it_is_cut(context: ssl.SSLContext, piece: int) -> None:
    client = _Client(context)
    client.shake_hands(piece)
    assert client.stats.ssl__handshake == 1


def test_a_record_arrives_whole_wherever_it_is_cut(context: ssl.SSLContext) -> None:
    plain = bytes(range(256)) * 63  # nearly the largest record
    size = len(plain) + 22  # header, content type and tag
    for at in (1, 4, 5, 6, 1000, size // 2, size - 100, size - 17, size - 1):
        client = _Client(context)
        client.shake_hands(1 << 20)
        record = client.record(plain)
        client.send(record[:at], size)
        client.send(record[at:], size)
        assert b"".join(client.inner.received) == plain, f"cut at {at}"


def test_a_large_body_never_lies_whole_in_a_buffer_that_stays(context: ssl.SSLContext) -> None:
    client = _Client(context)
    client.shake_hands(1 << 20)
    plain = bytes(range(256)) * 1024
    client.send(b"".join(client.record(plain[at : at + 16_384]) for at in range(0, len(plain), 16_384)), 1 << 20)
    assert b"".join(client.inner.received) == plain
    assert max(map(len, client.inner.received)) < 50_000
    client.pump.write(plain)
    assert client.receive(len(plain)) == plain
    assert client.raw.largest < 50_000
