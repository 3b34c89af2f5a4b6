"""The PROXY header in any split of its bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy.downstream.connection_info import ConnectionInfo
from mesh.proxy.downstream.listener_filters.listener_filter import ListenerFilterFailed
from mesh.proxy.downstream.listener_filters.proxy_protocol import ProxyProtocol
from mesh.proxy.observe.downstream_counters import ProxyProtocolStats

V1 = b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 443\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0e\xc6\x33\x64\x07\xc0\0\x02\x01" + struct.pack("!HH", 4711, 443) + b"\x04\0"


def inspector(*, optional: bool = False) -> ProxyProtocol:
    return ProxyProtocol(ProxyProtocolStats(), optional=optional, disallowed=frozenset())


def info() -> ConnectionInfo:
    return ConnectionInfo(("127.0.0.1", 1), ("127.0.0.2", 2))


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_every_prefix_waits_and_the_whole_is_taken(header: bytes) -> None:
    for size in range(1, len(header)):
        assert inspector().inspect(header[:size], info()) is None
    found = info()
    assert inspector().inspect(header + b"GET /", found) == len(header)
    assert (found.remote, found.local) == (("198.51.100.7", 4711), ("192.0.2.1", 443))
    assert found.original_destination == ("192.0.2.1", 443)
    assert found.direct_remote == ("127.0.0.1", 1)


def test_a_destination_that_is_the_sockets_own_is_not_restored() -> None:
    found = ConnectionInfo(("127.0.0.1", 1), ("192.0.2.1", 443))
    assert inspector().inspect(V1, found) == len(V1)
    assert found.original_destination is None


@given(st.binary(min_size=1, max_size=300), st.booleans())
def test_bytes_of_any_kind_are_taken_waited_for_or_refused(data: bytes, optional: bool) -> None:
    for header in (data, V1[:20] + data, V2[:14] + data):
        try:
            taken = inspector(optional=optional).inspect(header, info())
        except ListenerFilterFailed:
            continue
        assert taken is None or 0 <= taken <= len(header)
