"""The digests against numbers that the reference implementations give."""

from __future__ import annotations

import pytest

from mesh.proxy.upstream.balancing.digests import murmur2, xxh64

SPHINX = b"Sphinx of black quartz, judge my vow: 32 bytes and more"


@pytest.mark.parametrize(
    ("data", "seed", "digest"),
    [
        (b"", 0, 0xEF46DB3751D8E999),
        (b"a", 0, 0xD24EC4F1A98C6E5B),
        (b"abc", 1, 0xBEA9CA8199328908),
        (b"0123456", 0, 0x97EE4FE4A0FF4DFA),
        (b"10.0.0.1:8080_0", 0, 0x23A29AE775DFD4A3),
        (b"x" * 32, 0, 0xE2DF261FC2EC30EB),
        (SPHINX, 2654435761, 0x4693BF972716E927),
    ],
)
def test_xxh64(data: bytes, seed: int, digest: int) -> None:
    assert xxh64(data, seed) == digest


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", 6142509188972423790),
        (b"foo", 9631199822919835226),
        (b"bar", 11474628671133349555),
        (b"10.0.0.1:8080_0", 2887472326060304709),
    ],
)
def test_murmur2_is_what_libstdcxx_hashes_strings_to(data: bytes, digest: int) -> None:
    assert murmur2(data) == digest
