"""The hash functions that Envoy balances by: the same bytes give the same number here as there.

In Python, because keys are short and a digest of 20 bytes takes some 5 us; a dependency would have to be worth more.
"""

from __future__ import annotations

_MASK = (1 << 64) - 1
_P1, _P2, _P3, _P4, _P5 = (
    0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5,
)  # fmt: skip
_MURMUR = 0xC6A4A7935BD1E995
_MURMUR_SEED = 0xC70F6907  # of libstdc++'s std::hash


def xxh64(data: bytes, seed: int = 0) -> int:
    """Envoy's `HashUtil::xxHash64`: of request hash keys, ring entries and Maglev permutations."""
    size, at = len(data), 0
    if size >= 32:
        value, at = _stripes(data, seed)
    else:
        value = seed + _P5
    value += size
    for begin in range(at, size - 7, 8):
        value ^= _round(0, int.from_bytes(data[begin : begin + 8], "little"))
        value = (_rotate(value & _MASK, 27) * _P1 + _P4) & _MASK
    at = size & ~7
    if size & 4:
        value ^= int.from_bytes(data[at : at + 4], "little") * _P1
        value = (_rotate(value & _MASK, 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in data[at:]:
        value ^= byte * _P5
        value = _rotate(value & _MASK, 11) * _P1 & _MASK
    value &= _MASK
    value = (value ^ value >> 33) * _P2 & _MASK
    value = (value ^ value >> 29) * _P3 & _MASK
    return value ^ value >> 32


def murmur2(data: bytes) -> int:
    """Envoy's `MurmurHash::murmurHash2`, the 64-bit one: of rings that ask for `MURMUR_HASH_2`."""
    whole = len(data) & ~7
    value = _MURMUR_SEED ^ (len(data) * _MURMUR & _MASK)
    for at in range(0, whole, 8):
        word = int.from_bytes(data[at : at + 8], "little") * _MURMUR & _MASK
        word = (word ^ word >> 47) * _MURMUR & _MASK
        value = (value ^ word) * _MURMUR & _MASK
    if rest := data[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * _MURMUR & _MASK
    value = (value ^ value >> 47) * _MURMUR & _MASK
    return value ^ value >> 47


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> 64 - bits) & _MASK


def _round(lane: int, word: int) -> int:
    return _rotate((lane + word * _P2) & _MASK, 31) * _P1 & _MASK


def _stripes(data: bytes, seed: int) -> tuple[int, int]:
    """The four lanes over whole 32-byte stripes, merged; and how far they went."""
    lanes = [seed + _P1 + _P2 & _MASK, seed + _P2 & _MASK, seed, seed - _P1 & _MASK]
    whole = len(data) & ~31
    for at in range(0, whole, 32):
        for lane in range(4):
            begin = at + 8 * lane
            lanes[lane] = _round(lanes[lane], int.from_bytes(data[begin : begin + 8], "little"))
    value = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
    for lane_value in lanes:
        value = ((value ^ _round(0, lane_value)) * _P1 + _P4) & _MASK
    return value, whole
