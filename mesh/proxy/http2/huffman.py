"""The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).

The code is canonical, so it follows from the lengths alone. Decoding goes byte by byte through a state machine whose
transitions are worked out when they are first met: few of them ever are, and a full table would take megabytes.
"""

from __future__ import annotations

from mesh.proxy.http2.errors import HpackBroke

# fmt: off
_LENGTHS = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
)
# fmt: on
_EOS = 256


def _codes() -> list[str]:
    codes = [""] * len(_LENGTHS)
    code = length = 0
    for symbol in sorted(range(len(_LENGTHS)), key=lambda symbol: (_LENGTHS[symbol], symbol)):
        code <<= _LENGTHS[symbol] - length
        length = _LENGTHS[symbol]
        codes[symbol] = f"{code:0{length}b}"
        code += 1
    return codes


_CODES = _codes()
_SYMBOLS = {code: symbol for symbol, code in enumerate(_CODES)}
# States are the bits read of an unfinished symbol, numbered as they are met; a transition's key is state << 8 | byte.
_states: dict[str, int] = {"": 0}
_prefixes: list[str] = [""]
_steps: dict[int, tuple[int, bytes]] = {}
_MOST_STEPS = 16384


def encode(data: bytes) -> bytes:
    """The Huffman coding of `data`, padded with ones."""
    bits = "".join(map(_CODES.__getitem__, data))
    size = -(-len(bits) // 8)
    return int(bits.ljust(size * 8, "1"), 2).to_bytes(size, "big") if size else b""


def decode(data: bytes) -> bytes:
    """What was coded. Raises HpackBroke."""
    state = 0
    pieces = []
    for byte in data:
        key = state << 8 | byte
        try:
            state, piece = _steps[key]
        except KeyError:
            state, piece = _learn(key)
        pieces.append(piece)
    # What is left must be padding: fewer than eight bits, all ones (the start of EOS).
    left = _prefixes[state]
    if len(left) > 7 or "0" in left:
        raise HpackBroke("bad Huffman padding")
    return b"".join(pieces)


def _learn(key: int) -> tuple[int, bytes]:
    bits = _prefixes[key >> 8]
    symbols = []
    for bit in f"{key & 0xFF:08b}":
        bits += bit
        symbol = _SYMBOLS.get(bits)
        if symbol == _EOS:
            raise HpackBroke("EOS in a string")
        if symbol is not None:
            symbols.append(symbol)
            bits = ""
    state = _states.get(bits)
    if state is None:
        state = _states[bits] = len(_prefixes)
        _prefixes.append(bits)
    if len(_steps) >= _MOST_STEPS:
        _steps.clear()
    step = _steps[key] = state, bytes(symbols)
    return step
