"""A pod's iptables rules, from its annotations. What the kernel makes of them is tested in a lab."""

import pytest

from mesh.platforms.base import PlatformError
from mesh.platforms.netns.interception import Interception, read_interception, rules

PREFIX = "traffic.sidecar.istio.io/"
NODE = "10.244.0.1"


def chain(name: str, **annotations: str) -> list[str]:
    """The rules of one chain, without `-A` and the chain's name."""
    found = rules(read_interception({PREFIX + key: value for key, value in annotations.items()}), NODE)
    start = f"-A {name} "
    return [line.removeprefix(start) for line in found.splitlines() if line.startswith(start)]


def test_everything_that_comes_in_is_led_to_the_inbound_port_but_for_the_proxys_own() -> None:
    assert chain("PREROUTING") == ["-p tcp -j ISTIO_INBOUND"]
    *spared, last = chain("ISTIO_INBOUND")
    assert spared == [f"-p tcp --dport {port} -j RETURN" for port in (15020, 15021, 15090)]
    assert last == "-p tcp -j ISTIO_IN_REDIRECT"
    assert chain("ISTIO_IN_REDIRECT") == ["-p tcp -j REDIRECT --to-ports 15006"]


def test_what_goes_out_is_spared_only_by_its_mark_to_loopback_and_to_the_node() -> None:
    assert chain("ISTIO_OUTPUT") == [
        "-p tcp -s 127.0.0.6/32 -o lo -j RETURN",
        "-p tcp -m mark --mark 1337 -g ISTIO_PROXY",
        "-p tcp -o lo -j RETURN",
        "-p tcp -d 127.0.0.0/8 -j RETURN",
        "-p tcp -d 10.244.0.1/32 -j RETURN",
        "-p tcp -j ISTIO_REDIRECT",
    ]
    assert chain("ISTIO_PROXY") == ["-p tcp ! -d 127.0.0.0/8 -o lo -j ISTIO_IN_REDIRECT"]
    assert chain("ISTIO_REDIRECT") == ["-p tcp -j REDIRECT --to-ports 15001"]


def test_inbound_ports_can_be_chosen_or_spared() -> None:
    assert chain("ISTIO_INBOUND", includeInboundPorts="80, 443")[-2:] == [
        "-p tcp --dport 80 -j ISTIO_IN_REDIRECT",
        "-p tcp --dport 443 -j ISTIO_IN_REDIRECT",
    ]
    assert "-p tcp --dport 9000 -j RETURN" in chain("ISTIO_INBOUND", excludeInboundPorts="9000")
    assert chain("PREROUTING", includeInboundPorts="") == []


def test_outbound_ports_and_ranges_can_be_chosen_or_spared() -> None:
    found = chain("ISTIO_OUTPUT", excludeOutboundPorts="3306", excludeOutboundIPRanges="192.0.2.9/24")
    assert found[-3:] == [
        "-p tcp --dport 3306 -j RETURN",
        "-p tcp -d 192.0.2.0/24 -j RETURN",
        "-p tcp -j ISTIO_REDIRECT",
    ]
    found = chain("ISTIO_OUTPUT", includeOutboundIPRanges="10.96.0.0/16", includeOutboundPorts="5432")
    assert found[-2:] == ["-p tcp --dport 5432 -j ISTIO_REDIRECT", "-p tcp -d 10.96.0.0/16 -j ISTIO_REDIRECT"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("excludeInboundPorts", "70000"),
        ("excludeOutboundPorts", "80 -j ACCEPT"),
        ("excludeOutboundPorts", "*"),
        ("includeOutboundIPRanges", "10.0.0.0/40"),
        ("excludeOutboundIPRanges", "*"),
        ("kubevirtInterfaces", "net1"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(PlatformError, match=name):
        read_interception({PREFIX + name: value})


def test_other_annotations_are_nobodys_business_here() -> None:
    assert read_interception({"sidecar.istio.io/inject": "true"}) == Interception()
