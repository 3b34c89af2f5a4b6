"""The lab's network: a hub that routes, and a pod's namespace with one interface to it.

Each pod has a link of its own to the hub, as with Calico: no two pods share one, so neither can speak for the other,
and the hub drops what comes over a link from an address that is not behind it (strict `rp_filter`). Neighbours are
fixed, so nothing waits for ARP.
"""

import asyncio
import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from mesh.platforms.base import PlatformError
from mesh.platforms.netns import linux
from mesh.platforms.netns.interception import Interception, rules

POD_NETWORK = ipaddress.IPv4Network("10.244.0.0/16")
_VIA = "169.254.1.1"
_HUB_MAC = "ee:ee:ee:ee:ee:ee"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TOOL_S = 20.0

RESTORE = ("iptables-restore", "-n", "-w")
"""Adds the rules on its standard input, one process after the other: the old implementation has one lock for all."""

_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class PodNetwork:
    """One pod's namespace, held by the descriptor `fd`. `link` is the hub's end of its wire."""

    address: str
    link: str
    fd: int

    def new_socket(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket inside of the pod."""
        with linux.inside_network(self.fd):
            found = socket.socket(socket.AF_INET, kind)
        found.setblocking(False)
        return found

    def listen(self, port: int) -> socket.socket:
        """Inside of the pod, at its address. Raises OSError."""
        sock = self.new_socket()
        try:
            sock.bind((self.address, port))
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    async def connect(self, address: str, port: int) -> socket.socket:
        """A connection made inside of the pod, past its sidecar: as the kubelet's port-forward does."""
        sock = self.new_socket()
        try:
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        """A command in the pod's namespace, with the lab's privileges. Raises PlatformError."""
        with linux.inside_network(self.fd):
            return run_tool(argv, stdin)


class Hub:
    """The network of the process that makes it, which must be alone in its network namespace."""

    def __init__(self, network: ipaddress.IPv4Network = POD_NETWORK) -> None:
        self._hosts = network.num_addresses - 2
        self._network = network
        self._in_use: set[int] = {1}
        self._next = 1
        self.address = str(network[1])
        for name, value in (("ip_forward", "1"), ("conf/all/rp_filter", "1"), ("conf/default/rp_filter", "1")):
            linux.set_sysctl(f"net/ipv4/{name}", value)
        self.run(["ip", "-b", "-"], f"link set lo up\naddr add {self.address}/32 dev lo\n")

    def reserve(self) -> PodNetwork:
        """A namespace with an address of its own, and no wire yet. Raises PlatformError."""
        number = self._take()
        return PodNetwork(str(self._network[number]), f"pod{number}", linux.new_network())

    def wire(self, pod: PodNetwork, interception: Interception | None) -> None:
        """Joins a reserved one to the hub; without `interception` nothing is captured. Waits for commands, so that a
        thread may do it. Raises PlatformError."""
        self._wire(pod)
        if interception is not None:
            pod.run(RESTORE, rules(interception, self.address))

    def add_pod(self, interception: Interception | None) -> PodNetwork:
        """Reserved and wired. Raises PlatformError."""
        pod = self.reserve()
        try:
            self.wire(pod, interception)
        except PlatformError:
            self.remove_pod(pod)
            raise
        return pod

    def remove_pod(self, pod: PodNetwork) -> None:
        """The wire goes with the namespace, and that with the last process in it. The address may be used again."""
        run_tool(["ip", "link", "delete", pod.link], missing_is_fine=True)
        os.close(pod.fd)
        self._in_use.discard(int(ipaddress.IPv4Address(pod.address)) - int(self._network[0]))

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        """A command in the hub's namespace. Raises PlatformError."""
        return run_tool(argv, stdin)

    def _wire(self, pod: PodNetwork) -> None:
        mac = "0a:58:" + ":".join(f"{octet:02x}" for octet in ipaddress.IPv4Address(pod.address).packed)
        peer = f"peer name eth0 address {mac} netns /proc/self/fd/{pod.fd}"
        lines = (
            f"link add {pod.link} address {_HUB_MAC} type veth {peer}",
            f"link set {pod.link} up",
            f"route add {pod.address}/32 dev {pod.link}",
            f"neigh add {pod.address} lladdr {mac} dev {pod.link} nud permanent",
        )
        run_tool(["ip", "-b", "-"], "\n".join(lines), pass_fds=(pod.fd,))
        with linux.inside_network(pod.fd):
            # There is nothing but IPv4 between pods; an IPv6 of the link's own would lead around the rules.
            linux.set_sysctl("net/ipv6/conf/eth0/disable_ipv6", "1")
        inside = (
            "link set lo up",
            f"addr add {pod.address}/32 dev eth0",
            "link set eth0 up",
            f"neigh add {_VIA} lladdr {_HUB_MAC} dev eth0 nud permanent",
            f"route add {_VIA} dev eth0 scope link",
            f"route add default via {_VIA}",
        )
        pod.run(["ip", "-b", "-"], "\n".join(inside))

    def _take(self) -> int:
        """Addresses go round, so that one just given back is not taken again at once."""
        for _ in range(self._hosts):
            self._next = self._next % self._hosts + 1
            if self._next not in self._in_use:
                self._in_use.add(self._next)
                return self._next
        raise PlatformError(f"all pod addresses of {self._network} are in use")


def tool(name: str) -> str | None:
    """Where a command of the system's administration is, which a user's PATH need not name."""
    return shutil.which(name, path=_PATH)


def run_tool(
    argv: Sequence[str],
    stdin: str = "",
    *,
    pass_fds: Sequence[int] = (),
    missing_is_fine: bool = False,
) -> str:
    """The command's output. Raises PlatformError with what it said on standard error."""
    path = tool(argv[0])
    if path is None:
        raise PlatformError(f"there is no command `{argv[0]}`")
    try:
        done = subprocess.run(
            [path, *argv[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_TOOL_S,
            check=False,
            pass_fds=pass_fds,
            env={"PATH": _PATH, "XTABLES_LOCKFILE": os.devnull},
        )
    except subprocess.TimeoutExpired as error:
        raise PlatformError(f"`{' '.join(argv)}` took longer than {_TOOL_S:g} s") from error
    if done.returncode and not missing_is_fine:
        raise PlatformError(f"`{' '.join(argv)}`: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
