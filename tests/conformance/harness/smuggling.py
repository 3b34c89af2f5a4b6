"""A corpus of HTTP/1 inputs that two readers may read differently, as bytes: malformed, ambiguous, truncated.

Each is sent as it stands on a connection of its own. `MARK` stands for the input's number, so that what reaches an
upstream can be told apart. Except where an input is cut short, a well-formed `PROBE` follows it: whether it is answered
for itself, swallowed as somebody's body, or never read shows where the reader thinks that the input ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MARK = b"\xa7"
PROBE = b"GET /\xa7/probe HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
_HOST = b"Host: h\r\n"
_INNER = b"GET /\xa7/inner HTTP/1.1\r\nHost: h\r\n\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


@dataclass(frozen=True)
class Input:
    """One input; `is_cut` if the client ends the connection instead of going on with the probe."""

    name: str
    data: bytes
    is_cut: bool = False


def corpus() -> list[Input]:
    """Every input, with a name that says what is odd about it."""
    families = (
        _lengths, _codings, _both, _chunk_sizes, _chunk_ends, _trailers, _methods, _targets, _versions, _hosts,
        _lines, _names, _hops, _pipelines, _other_protocols, _truncations,
    )  # fmt: skip
    return [each for family in families for each in family()]


def _post(headers: bytes, body: bytes = b"", host: bytes = _HOST) -> bytes:
    return b"POST /\xa7 HTTP/1.1\r\n%b%b\r\n%b" % (host, headers, body)


def _get(headers: bytes = b"", host: bytes = _HOST) -> bytes:
    return b"GET /\xa7 HTTP/1.1\r\n%b%b\r\n" % (host, headers)


def _shown(data: bytes) -> str:
    text = repr(data)[2:-1]
    return text if len(text) <= 60 else f"{text[:57]}..."


def _lengths() -> Iterator[Input]:
    values = (
        b"5", b" 5", b"5 ", b"\t5\t", b"05", b"+5", b"-5", b"5.0", b"0x5", b"5,5", b"5, 5", b"5, 6", b"5;", b"5 5",
        b"", b" ", b"five", b"5\x00", b"5\x0b", b"5\x0c", b"\xb2", b"5e0", b"18446744073709551616", b"9" * 30, b"1_0",
    )  # fmt: skip
    for value in values:
        yield Input(f"content-length {_shown(value)}", _post(b"Content-Length:%b\r\n" % value, b"hello"))
    for first, second in ((b"5", b"5"), (b"5", b"0"), (b"0", b"5"), (b"5", b"6"), (b"5", b"")):
        both = b"Content-Length: %b\r\nContent-Length: %b\r\n" % (first, second)
        yield Input(f"content-length {_shown(first)} then {_shown(second)}", _post(both, b"hello"))
    for name in (b"Content_Length", b"Content-Length ", b"Content-Length\t", b"Content\xadLength", b"\rContent-Length"):
        yield Input(f"name {_shown(name)}", _post(b"%b: 35\r\n" % name, _INNER))
    yield Input("content-length of a body that hides a request", _post(b"Content-Length: %d\r\n" % len(_INNER), _INNER))
    yield Input("content-length shorter than its body", _post(b"Content-Length: 2\r\n", b"hello"))
    yield Input("content-length 0 with a body", _post(b"Content-Length: 0\r\n", _INNER))
    yield Input("a body without content-length", _post(b"", _INNER))


def _codings() -> Iterator[Input]:
    body = b"5\r\nhello\r\n0\r\n\r\n"
    values = (
        b"chunked", b" chunked", b"chunked ", b"\tchunked", b"CHUNKED", b"Chunked", b"xchunked", b"chunkedx",
        b"chunked, chunked", b"chunked,", b",chunked", b", chunked", b"chunked;q=1", b'"chunked"', b"'chunked'",
        b"identity", b"identity, chunked", b"chunked, identity", b"gzip, chunked", b"gzip", b"deflate", b"", b" ",
        b"chunk\x00ed", b"chunked\x00", b"\x0bchunked", b"chunked\x0b", b"\x0cchunked", b"chunked\r", b"cow",
        b"\xefchunked", b"chunked\xa0", b"chunked\x85", b"chunked\x7f", b"ch\xc3\xbcnked",
    )  # fmt: skip
    for value in values:
        yield Input(f"transfer-encoding {_shown(value)}", _post(b"Transfer-Encoding:%b\r\n" % value, body))
    for name in (
        b"Transfer-Encoding ",
        b"Transfer_Encoding",
        b"Transfer-Encoding\t",
        b"transfer-encodinG",
        b"X: y\nTransfer-Encoding",
    ):
        yield Input(f"name {_shown(name)}", _post(b"%b: chunked\r\n" % name, body))
    for first, second in (
        (b"chunked", b"chunked"),
        (b"identity", b"chunked"),
        (b"chunked", b"identity"),
        (b"chunked", b""),
    ):
        both = b"Transfer-Encoding: %b\r\nTransfer-Encoding: %b\r\n" % (first, second)
        yield Input(f"transfer-encoding {_shown(first)} then {_shown(second)}", _post(both, body))
    yield Input("transfer-encoding folded", _post(b"Transfer-Encoding:\r\n chunked\r\n", body))
    yield Input("transfer-encoding on GET", _get(_CHUNKED) + body)


def _both() -> Iterator[Input]:
    hidden = b"0\r\n\r\n" + _INNER
    for length in (0, 3, 5, len(hidden)):
        there = b"Content-Length: %d\r\n" % length
        yield Input(f"content-length {length} then chunked", _post(there + _CHUNKED, hidden))
        yield Input(f"chunked then content-length {length}", _post(_CHUNKED + there, hidden))
    for value in (b"xchunked", b"identity", b"chunked ", b"\x0bchunked", b", chunked", b"CHUNKED"):
        headers = b"Content-Length: 5\r\nTransfer-Encoding:%b\r\n" % value
        yield Input(f"content-length and transfer-encoding {_shown(value)}", _post(headers, hidden))


def _chunk_sizes() -> Iterator[Input]:
    sizes = (
        b"5", b"05", b"0005", b"00000000000000005", b"0x5", b"+5", b"-5", b" 5", b"5 ", b"5\t", b"5;", b"5;x",
        b"5;x=y", b'5;x="y"', b'5;x="\r\n"', b'5;x="\n"', b"5;\x00", b"5;\x7f", b"5;" + b"x" * 5000, b"5\r", b"5\x00",
        b"5\x0b", b"5,", b"5 ;x", b"5g", b"g", b"", b"five", b"FFFFFFFFFFFFFFFF", b"10000000000000005",
        b"8000000000000000", b"5_", b"\xb5",
    )  # fmt: skip
    for size in sizes:
        yield Input(f"chunk size {_shown(size)}", _post(_CHUNKED, b"%b\r\nhello\r\n0\r\n\r\n" % size))
    for size in (b"0", b"00", b"0;x", b"0 ", b"-0", b"+0", b"0x0", b"0\t", b"0\x00"):
        yield Input(f"last chunk {_shown(size)}", _post(_CHUNKED, b"5\r\nhello\r\n%b\r\n\r\n" % size))


def _chunk_ends() -> Iterator[Input]:
    bodies = (
        b"5\nhello\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r0\r\n\r\n", b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\r\n0\n\r\n", b"5\r\nhello\r\n0\r\n\n", b"5\r\nhello\r\n0\n\n", b"5\r\nhelloo\r\n0\r\n\r\n",
        b"5\r\nhell\r\n0\r\n\r\n", b"5\r\nhello\r\n\r\n0\r\n\r\n", b"5\r\nhello\r\r\n0\r\n\r\n",
        b"\r\n5\r\nhello\r\n0\r\n\r\n", b"5\r\r\nhello\r\n0\r\n\r\n", b"5\rXhello\r\n0\r\n\r\n",
        b"0\r\n\r\n" + _INNER, b"0\r\n\r\n\r\n" + _INNER, b"5\r\nhello\r\n0\r\n\r\r\n",
        b"3\r\nabc\r\n2;\nxx\r\n0\r\n\r\n",
    )  # fmt: skip
    for body in bodies:
        yield Input(f"chunked body {_shown(body)}", _post(_CHUNKED, body))


def _trailers() -> Iterator[Input]:
    lines = (
        b"X: y\r\n", b"X : y\r\n", b": y\r\n", b"X\r\n", b" X: y\r\n", b"X: y\r\n z\r\n", b"X: y\n", b"X: \x00\r\n",
        b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: other\r\n", b"X: y\rZ: z\r\n",
        b"X(): y\r\n", b"X: " + b"y" * 70000 + b"\r\n", b"".join(b"X%d: y\r\n" % number for number in range(200)),
    )  # fmt: skip
    for line in lines:
        yield Input(f"trailer {_shown(line)}", _post(_CHUNKED, b"5\r\nhello\r\n0\r\n%b\r\n" % line))


def _methods() -> Iterator[Input]:
    for method in (
        b"get", b"Get", b"G", b"GETS", b"BREW", b"G\x00ET", b"G\xc9T", b"GET\x0b", b"(GET)", b"", b"PRI", b"TRACE",
        b"CONNECT", b"OPTIONS", b"GET,POST", b"M" * 300,
    ):  # fmt: skip
        yield Input(f"method {_shown(method)}", b"%b /\xa7 HTTP/1.1\r\nHost: h\r\n\r\n" % method)
    for start in (
        b"GET  /\xa7 HTTP/1.1", b"GET /\xa7  HTTP/1.1", b"GET\t/\xa7\tHTTP/1.1", b" GET /\xa7 HTTP/1.1",
        b"GET /\xa7 HTTP/1.1 ", b"GET /\xa7", b"GET /\xa7 ", b"GET", b"GET/\xa7HTTP/1.1", b"GET /\xa7\x0bHTTP/1.1",
        b"GET /\xa7 x HTTP/1.1", b"\x00GET /\xa7 HTTP/1.1", b"\xef\xbb\xbfGET /\xa7 HTTP/1.1", b"GET /\xa7\rHTTP/1.1",
    ):  # fmt: skip
        yield Input(f"request line {_shown(start)}", start + b"\r\nHost: h\r\n\r\n")


def _targets() -> Iterator[Input]:
    for target in (
        b"\xa7", b"*", b"//\xa7", b"/\xa7/../\xa7", b"/\xa7/%00", b"/\xa7/%2e%2e/", b"/\xa7/%", b"/\xa7/%zz",
        b"/\xa7\\x", b"/\xa7#x", b"/\xa7?#x", b"/\xa7/\x00", b"/\xa7/\x7f", b"/\xa7/\x80", b"/\xa7/\xff", b"/\xa7/\t",
        b"/\xa7/\x0b", b"/\xa7/" + b"x" * 70000, b"http://h/\xa7", b"HTTP://h/\xa7", b"http://other/\xa7",
        b"http:///\xa7", b"http://h", b"http://u@h/\xa7", b"http://h:x/\xa7", b"http://h:99999/\xa7",
        b"http://h h/\xa7", b"ftp://h/\xa7", b"https://h/\xa7", b"http:/\xa7", b"http:h/\xa7", b"h:80", b"h",
        b"?\xa7", b"/\xa7;x", b"/\xa7|x", b'/\xa7"x', b"/\xa7<x>", b"/\xa7{x}", b"/\xa7^x`", b"[::1]", b"//h/\xa7",
        b"http://h?/\xa7", b"http://h?x/../\xa7", b"http://h:80?/\xa7", b"http://h;x/\xa7", b"http://h%2f/\xa7",
        b"http://h_h/\xa7", b"http://[::1/\xa7", b"http://::1/\xa7", b"http://[::1]/\xa7", b"http://[::g]/\xa7",
        b"http://h:80:80/\xa7", b"http://*/\xa7", b"http://h'/\xa7", b"http://h,i/\xa7", b"http://h\\i/\xa7",
        b"http://h:/\xa7", b"https://h:443/\xa7", b"HTTPS://h/\xa7", b"/\xa7/..;/x", b"/\xa7/.;/../x",
        b"/\xa7/%0d%0aX: y",
    ):  # fmt: skip
        yield Input(f"target {_shown(target)}", b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % target)


def _versions() -> Iterator[Input]:
    for version in (
        b"http/1.1", b"HTTP/1.1x", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1.", b"HTTP/1", b"HTTP/.1", b"HTTP/1,1",
        b"HTTP/1.2", b"HTTP/1.9", b"HTTP/0.9", b"HTTP/2", b"HTTP/2.0", b"HTTP/3.0", b"HTTP/-1.1", b"HTTP/1.-1",
        b"HTTP/1.1\x00", b"HTTPS/1.1", b"HTTP\\1.1", b"ICE/1.0", b"RTSP/1.0", b"HTTP /1.1", b"HTTP/ 1.1", b"1.1",
        b"HTTP/\xb1.1",
    ):  # fmt: skip
        yield Input(f"version {_shown(version)}", b"GET /\xa7 %b\r\nHost: h\r\n\r\n" % version)


def _hosts() -> Iterator[Input]:
    for host in (
        b"", b"Host:\r\n", b"Host: \r\n", b"Host: h\r\nHost: h\r\n", b"Host: h\r\nHost: i\r\n", b"Host: h i\r\n",
        b"Host: h,i\r\n", b"Host: h/x\r\n", b"Host: u@h\r\n", b"Host: h:80:80\r\n", b"Host: h:\r\n", b"Host: h:x\r\n",
        b"Host: h:99999\r\n", b"Host: [::1]\r\n", b"Host: [::1]:80\r\n", b"Host: [::1\r\n", b"Host: ::1\r\n",
        b"Host: h?x\r\n", b"Host: h#x\r\n", b"Host: \xc3\xbc\r\n", b"Host: h\x00\r\n", b"Host: h\\x\r\n",
        b"Host: <h>\r\n", b"Host: %68\r\n", b"Host: h\t\r\n", b"Host : h\r\n", b" Host: h\r\n", b"Host: h\r\n i\r\n",
        b"Host: " + b"h" * 70000 + b"\r\n", b"HOST: h\r\n", b"Host: .\r\n", b"X-Host: h\r\n", b"Host; h\r\n",
        b"Host: h\r\nHost:\r\n",
    ):  # fmt: skip
        yield Input(f"host {_shown(host)}", _get(host=host))


def _lines() -> Iterator[Input]:
    for line in (
        b"X: a\nY: b\r\n", b"X: a\n\r\n", b"X: a\r\rY: b\r\n", b"X: a\rY: b\r\n", b"X: a\r\n b\r\n",
        b"X: a\r\n\tb\r\n", b"X:\r\n a\r\n", b"X: a\x00b\r\n", b"X: a\x01b\r\n", b"X: a\x08b\r\n", b"X: a\x0bb\r\n",
        b"X: a\x0cb\r\n", b"X: a\x1bb\r\n", b"X: a\x7fb\r\n", b"X: a\tb\r\n", b"X: \xe9\r\n", b"X: \xff\r\n",
        b"X: " + b"a" * 100_000 + b"\r\n", b"X\r\n", b"X a\r\n", b": a\r\n", b":\r\n",
        b"".join(b"X%d: a\r\n" % number for number in range(150)), b"X: a\r\n\n", b"\n", b"X: a\x85Y: b\r\n",
        b"X: a\xe2\x80\xa8Y: b\r\n", b" X: a\r\n", b"\tX: a\r\n", b"X: a\r\n \r\n", b"X=a\r\n",
    ):  # fmt: skip
        yield Input(f"header line {_shown(line)}", _get(line))


def _names() -> Iterator[Input]:
    for name in (
        b"X Y", b"X\tY", b"X\x00", b"X(", b"X)", b"X<", b"X@", b"X,", b"X;", b"X\\", b'X"', b"X/", b"X[", b"X?",
        b"X=", b"X{", b"X\x7f", b"X\xe9", b"X ", b"X_", b"X.", b"X!", b"X~", b"X|", b"X" * 5000, b":method", b":path",
        b":authority",
    ):  # fmt: skip
        yield Input(f"header name {_shown(name)}", _get(b"%b: a\r\n" % name))


def _hops() -> Iterator[Input]:
    for lines in (
        b"Connection: host\r\n", b"Connection: content-length\r\n", b"Connection: transfer-encoding\r\n",
        b"Connection: X\r\nX: a\r\n", b"Connection: x-forwarded-proto\r\n", b"Connection: close, x\r\nX: a\r\n",
        b"Connection: keep-alive\r\nKeep-Alive: 5\r\n", b"Connection: \r\n", b"Connection: ,\r\n",
        b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Connection: x-request-id\r\n",
        b"Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"Upgrade: websocket\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"TE: trailers\r\n",
        b"TE: chunked\r\n", b"Proxy-Connection: close\r\n", b"Expect: 200-ok\r\n", b"Trailer: x\r\n",
        b"Connection: close\r\nConnection: x\r\nX: a\r\n", b"TE: gzip, trailers\r\n", b"TE: trailers\r\nTE: gzip\r\n",
        b"Expect: 100-continue\r\nExpect: 100-continue\r\n", b"Authorization: a\r\nAuthorization: b\r\n",
        b"X-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\n", b"Via: a\r\nX: b\r\nVIA: c\r\n",
        b"X: a\r\nX: b\r\n", b"Content-Type: a\r\ncontent-type: b\r\n", b"Cookie: a=1\r\nCookie: b=2\r\n",
        b"Connection: user-agent\r\nUser-Agent: a\r\nUser-Agent: b\r\n", b"Connection: upgrade, x\r\nX: a\r\n",
        b"Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n", b"Connection: \x22close\x22\r\n",
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n", b"Keep-Alive: timeout=5\r\nTE: trailers;q=0\r\n",
        b"Connection: :path\r\n", b"Connection: cookie\r\nCookie: a=b\r\n", b"Connection: te\r\nTE: x\r\n",
    ):  # fmt: skip
        yield Input(f"hop by hop {_shown(lines)}", _get(lines))
    yield Input(
        "connection: content-length with a body",
        _post(b"Connection: content-length\r\nContent-Length: 5\r\n", b"hello"),
    )
    yield Input("expect with a body", _post(b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"hello"))


def _pipelines() -> Iterator[Input]:
    yield Input("two requests", _get() + _INNER)
    yield Input("five requests", _get() + _INNER * 4)
    yield Input("an empty line between requests", _get() + b"\r\n" + _INNER)
    yield Input("many empty lines before a request", b"\r\n" * 50 + _get())
    yield Input("LF lines before a request", b"\n\n" + _get())
    yield Input("a lone CR before a request", b"\r" + _get())
    yield Input("spaces between requests", _get() + b"   " + _INNER)
    yield Input("nonsense between requests", _get() + b"nonsense\r\n\r\n" + _INNER)
    yield Input("GET with a body", _get(b"Content-Length: %d\r\n" % len(_INNER)) + _INNER)
    yield Input("HEAD with a body", b"HEAD /\xa7 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
    yield Input(
        "DELETE chunked",
        b"DELETE /\xa7 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    yield Input("close, and a request after it", _get(b"Connection: close\r\n") + _INNER)
    yield Input("a response for a request", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    yield Input("a request in LF alone", b"GET /\xa7 HTTP/1.1\nHost: h\n\n")


def _other_protocols() -> Iterator[Input]:
    yield Input("the HTTP/2 preface cut", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
    yield Input("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600))
    yield Input("SOCKS5", b"\x05\x01\x00")
    yield Input("PROXY protocol", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + _get())
    yield Input("zeros", bytes(400))
    yield Input("SSH", b"SSH-2.0-OpenSSH_9.2\r\n")
    yield Input("a line that does not end", b"x" * 70_000)


def _truncations() -> Iterator[Input]:
    whole = {
        "GET": _get(b"X: a\r\n"),
        "content-length": _post(b"Content-Length: 5\r\n", b"hello"),
        "chunked": _post(_CHUNKED, b"5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n"),
    }
    for name, data in whole.items():
        for end in range(3, len(data), max(1, len(data) // 14)):
            yield Input(f"{name} cut at {end}: {_shown(data[max(0, end - 12) : end])}", data[:end], is_cut=True)
