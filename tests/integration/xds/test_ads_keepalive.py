"""Signs of life: a proxy asks for them as often as it likes, in HTTP/2 frames of the test's own."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from cryptography.x509 import UniformResourceIdentifier
from xdskit.mesh import BOOKINFO, objects
from xdskit.pki import Authority
from xdskit.serving import served

WAIT_S = 10.0
PINGS = 10
SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """A frame of stream 0 (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + bytes(4) + payload


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    """Kind, flags and payload."""
    head = await reader.readexactly(9)
    return head[3], head[4], await reader.readexactly(int.from_bytes(head[:3]))


def client_tls(authority: Authority, folder: Path) -> ssl.SSLContext:
    key, chain = authority.issue(UniformResourceIdentifier("spiffe://cluster.local/ns/default/sa/a"))
    file = folder / "client.pem"
    file.write_bytes(key + chain)
    context = ssl.create_default_context(cadata=authority.root.decode())
    context.load_cert_chain(file)
    context.set_alpn_protocols(["h2"])
    return context


def test_pings_do_not_cost_a_proxy_its_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = Authority()
        async with served(authority, objects(BOOKINFO.read_text())) as (_, port), asyncio.timeout(WAIT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_tls(authority, tmp_path))
            writer.write(PREFACE + frame(SETTINGS))
            for number in range(PINGS):
                writer.write(frame(PING, number.to_bytes(8)))
                while (received := await read_frame(reader))[:2] != (PING, ACK):
                    assert received[0] != GOAWAY, received[2]
                assert received[2] == number.to_bytes(8)
            writer.close()

    asyncio.run(scenario())
