"""What the kernel has of what network faults need, found out by trying it."""

import os
from collections.abc import Mapping

from mesh.api.pod_fault import Bandwidth, Direction, Loss, NetworkEffect, Partition, Reset
from mesh.platforms.base import Capability, PlatformError
from mesh.platforms.netns import linux
from mesh.platforms.netns.faults.reader import ask_for, open_socket
from mesh.platforms.netns.faults.rules import JUMP, Cut, table
from mesh.platforms.netns.network import RESTORE, run_tool

_SAMPLES: Mapping[Capability, tuple[NetworkEffect, str]] = {
    Capability.PARTITION: (Partition(), "CONFIG_IP_NF_FILTER"),
    Capability.RESET: (Reset(), "CONFIG_IP_NF_TARGET_REJECT"),
    Capability.LOSS: (Loss(percent=50), "CONFIG_NETFILTER_XT_MATCH_STATISTIC"),
    Capability.DELAY: (Bandwidth(rate=8000), "CONFIG_NETFILTER_XT_TARGET_NFQUEUE"),
}


def lacking() -> Mapping[Capability, str]:
    """Why each network fault that cannot be laid here cannot, found out in a network namespace made for it."""
    network = linux.new_network()
    try:
        with linux.inside_network(network):
            return lacking_here()
    finally:
        os.close(network)


def lacking_here() -> Mapping[Capability, str]:
    """The same, found out in this very network namespace. Rules for an address that nobody has are left in it."""
    found = _without_rules()
    if no_reader := _why_no_reader():
        found.setdefault(Capability.DELAY, no_reader)
    if Capability.DELAY in found:  # both are queues
        found[Capability.BANDWIDTH] = found[Capability.DELAY]
    return found


def _without_rules() -> dict[Capability, str]:
    """One attempt with all rules, as a kernel has them all as a rule; only then each by itself."""
    cuts = {capability: Cut("192.0.2.1", effect, Direction.TO) for capability, (effect, _) in _SAMPLES.items()}
    try:
        _restore(JUMP)
        _restore(table(cuts.values()))
    except PlatformError:
        return {name: why for name, cut in cuts.items() if (why := _refusal(table([cut]), _SAMPLES[name][1]))}
    return {}


def _refusal(rules: str, option: str) -> str:
    try:
        _restore(rules)
    except PlatformError as error:
        return f"the kernel lacks it, or a module is not loaded ({option}): {error}"
    return ""


def _why_no_reader() -> str:
    """Packets of queues are read over a socket of their own kind, which is another option of the kernel's."""
    try:
        with open_socket() as sock:
            ask_for(sock, 1, lambda data: None)
    except (OSError, PlatformError) as error:
        return f"the kernel lacks it, or a module is not loaded (CONFIG_NETFILTER_NETLINK_QUEUE): {error}"
    return ""


def _restore(rules: str) -> None:
    run_tool(RESTORE, rules)
