"""Names of certificates: wildcards as Envoy reads them, addresses as it writes them, and what TLS must not do."""

from __future__ import annotations

import ssl

import pytest

from mesh.proxy.tls import names
from mesh.proxy.tls.context import ContextOptions, Pair, Trust, make_context


@pytest.mark.parametrize(
    ("pattern", "host", "stands"),
    [
        ("*.a.test", "x.a.test", True),
        ("*.A.test", "X.a.TEST", True),
        ("f*.a.test", "foo.a.test", True),
        ("f*o.a.test", "fo.a.test", True),
        ("f*f.a.test", "f.a.test", False),
        ("*.a.test", "a.test", False),
        ("*.a.test", "x.y.a.test", False),
        ("*.*.test", "x.a.test", False),
        ("x.*.test", "x.a.test", False),
        ("**.a.test", "x.a.test", False),
        ("xn--*.a.test", "xn--x.a.test", False),
        ("*", "test", False),
        ("*", "*", True),
    ],
)
def test_which_host_a_dns_name_stands_for(pattern: str, host: str, stands: bool) -> None:
    assert names.stands_for(pattern, host) is stands


@pytest.mark.parametrize(
    ("kind", "value", "written"),
    [
        ("IP Address", "2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("IP Address", "10.1.2.3", "10.1.2.3"),
        ("URI", "a:b", "a:b"),
    ],
)
def test_names_are_written_as_envoy_does(kind: str, value: str, written: str) -> None:
    assert names.written(kind, value) == written


@pytest.mark.parametrize("server", [True, False])
def test_nothing_is_negotiated_anew(server: bool) -> None:
    made = make_context((Pair(),), Trust(), ContextOptions(server=server, require_peer=False))
    assert made.options & ssl.OP_NO_RENEGOTIATION
