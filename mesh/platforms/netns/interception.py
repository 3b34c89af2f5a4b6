"""The iptables rules of a pod, as Istio's init container makes them. Pure.

Source: istio/tools/istio-iptables. There the proxy's own connections are known by its uid; a user namespace of one id
has no second uid, so here they are known by a mark, which only the proxy may set. On `docker` they are known by its
ids. Port 15008 is not spared as there: no proxy of ours listens on it, so an app that did would be reached around it.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mesh.platforms.base import PlatformError

PROXY_MARK = 1337
OUTBOUND_PORT, INBOUND_PORT = 15001, 15006
PASSTHROUGH_SOURCE = "127.0.0.6"

MARKED = f"-m mark --mark {PROXY_MARK}"
"""What matches the proxy's own connections, and no others."""

_PREFIX = "traffic.sidecar.istio.io/"
_CHAINS = ("ISTIO_INBOUND", "ISTIO_OUTPUT", "ISTIO_PROXY", "ISTIO_REDIRECT", "ISTIO_IN_REDIRECT")
_ALWAYS_EXCLUDED = ("15020", "15021", "15090")


@dataclass(frozen=True, slots=True)
class Interception:
    """What is captured. Ports as text; `*` in `include_inbound` or `include_ranges` is everything."""

    include_inbound: tuple[str, ...] = ("*",)
    exclude_inbound: tuple[str, ...] = ()
    include_ranges: tuple[str, ...] = ("*",)
    exclude_ranges: tuple[str, ...] = ()
    include_outbound: tuple[str, ...] = ()
    exclude_outbound: tuple[str, ...] = ()


def read_interception(annotations: Mapping[str, str]) -> Interception:
    """From a pod's annotations `traffic.sidecar.istio.io/...`. Raises PlatformError, naming the annotation."""
    known = {name: value for name, value in annotations.items() if name.startswith(_PREFIX)}
    found = Interception(
        include_inbound=_ports(known, "includeInboundPorts", ("*",)),
        exclude_inbound=_ports(known, "excludeInboundPorts", ()),
        include_ranges=_ranges(known, "includeOutboundIPRanges", ("*",)),
        exclude_ranges=_ranges(known, "excludeOutboundIPRanges", ()),
        include_outbound=_ports(known, "includeOutboundPorts", ()),
        exclude_outbound=_ports(known, "excludeOutboundPorts", ()),
    )
    if known:
        raise PlatformError(f"annotation {min(known)} is not carried out by this platform")
    return found


def rules(wanted: Interception, node: str, proxy: str = MARKED) -> str:
    """The input of `iptables-restore`. `node` is where DNS and the control plane are, which is never captured; `proxy`
    matches what the proxy itself sends."""
    return "\n".join(
        (
            "*nat",
            *(f":{chain} - [0:0]" for chain in _CHAINS),
            f"-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports {OUTBOUND_PORT}",
            f"-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports {INBOUND_PORT}",
            *_inbound(wanted),
            *_outbound(wanted, node, proxy),
            "COMMIT",
            "",
        )
    )


def _inbound(wanted: Interception) -> Iterator[str]:
    if not wanted.include_inbound:
        return
    yield "-A PREROUTING -p tcp -j ISTIO_INBOUND"
    for port in (*_ALWAYS_EXCLUDED, *wanted.exclude_inbound):
        yield f"-A ISTIO_INBOUND -p tcp --dport {port} -j RETURN"
    if wanted.include_inbound == ("*",):
        yield "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT"
    else:
        yield from (f"-A ISTIO_INBOUND -p tcp --dport {port} -j ISTIO_IN_REDIRECT" for port in wanted.include_inbound)


def _outbound(wanted: Interception, node: str, proxy: str) -> Iterator[str]:
    chain = "-A ISTIO_OUTPUT -p tcp"
    yield "-A OUTPUT -p tcp -j ISTIO_OUTPUT"
    # The proxy passes a request on to the app, from an address that says so.
    yield f"{chain} -s {PASSTHROUGH_SOURCE}/32 -o lo -j RETURN"
    yield f"{chain} {proxy} -g ISTIO_PROXY"  # to its end: nothing that follows is the proxy's
    # The proxy calls a service of which this very pod is an endpoint: that is inbound again.
    yield "-A ISTIO_PROXY -p tcp ! -d 127.0.0.0/8 -o lo -j ISTIO_IN_REDIRECT"
    # The app calls itself, by whatever address.
    yield f"{chain} -o lo -j RETURN"
    yield f"{chain} -d 127.0.0.0/8 -j RETURN"
    yield f"{chain} -d {node}/32 -j RETURN"
    for port in wanted.exclude_outbound:
        yield f"{chain} --dport {port} -j RETURN"
    for network in wanted.exclude_ranges:
        yield f"{chain} -d {network} -j RETURN"
    for port in wanted.include_outbound:
        yield f"{chain} --dport {port} -j ISTIO_REDIRECT"
    for network in wanted.include_ranges:
        yield f"{chain} -j ISTIO_REDIRECT" if network == "*" else f"{chain} -d {network} -j ISTIO_REDIRECT"


def _ports(known: dict[str, str], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    text = known.pop(_PREFIX + name, None)
    if text is None:
        return default
    ports = _words(text)
    if ports == ("*",) and name == "includeInboundPorts":
        return ports
    for port in ports:
        if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise PlatformError(f'annotation {_PREFIX}{name}: "{port}" is not a port')
    return ports


def _ranges(known: dict[str, str], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    text = known.pop(_PREFIX + name, None)
    if text is None:
        return default
    words = _words(text)
    return words if words == ("*",) and name == "includeOutboundIPRanges" else tuple(_network(w, name) for w in words)


def _network(text: str, name: str) -> str:
    try:
        return str(ipaddress.IPv4Network(text, strict=False))
    except ValueError as error:
        raise PlatformError(f'annotation {_PREFIX}{name}: "{text}" is not an IPv4 network ({error})') from error


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
