"""The command line of `python -m mesh.control`."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mesh.config.cluster_ips import DEFAULT_RANGE, SMALLEST_PREFIX

API_PORT, XDS_PORT = 15014, 15012
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Options:
    """What one control plane is started with. Port 0 is any free one."""

    state: Path
    address: str
    api_port: int
    xds_port: int
    log_level: str
    cluster_ips: ipaddress.IPv4Network = DEFAULT_RANGE


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """The options in `arguments` (default: the command line's); exits with usage and code 2 if they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m mesh.control", description="Control plane of one mesh.")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="state folder, made if absent")
    parser.add_argument(
        "--address", type=_address, default="127.0.0.1", metavar="IP", help="where to listen [127.0.0.1]"
    )
    parser.add_argument("--api-port", type=_port, default=API_PORT, metavar="PORT", help=f"HTTPS API [{API_PORT}]")
    parser.add_argument("--xds-port", type=_port, default=XDS_PORT, metavar="PORT", help=f"ADS [{XDS_PORT}]")
    parser.add_argument(
        "--service-cluster-ip-range",
        type=_network,
        default=DEFAULT_RANGE,
        metavar="CIDR",
        help=f"where Services get their cluster IPs from [{DEFAULT_RANGE}]",
    )
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="info")
    found = parser.parse_args(arguments)
    return Options(
        found.state.absolute(),
        found.address,
        found.api_port,
        found.xds_port,
        found.log_level,
        found.service_cluster_ip_range,
    )


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IPv4 address") from error


def _network(text: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IPv4 network such as {DEFAULT_RANGE}") from error
    if network.prefixlen > SMALLEST_PREFIX:
        raise argparse.ArgumentTypeError(f"{text} holds too few addresses: /{SMALLEST_PREFIX} is the smallest")
    return network


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)
