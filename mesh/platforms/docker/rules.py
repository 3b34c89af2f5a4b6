"""The rules of a captured pod: Istio's, but for how they know the proxy. Pure but for the drawing of ids.

An image that starts as root keeps what it takes to become any user and group, so a number that can be found out proves
nothing about who sends. A uid can be: the kernel shows that of each socket to all of its network (`/proc/net/tcp`).
Groups it shows only to who sees the process, or is connected with it by a Unix socket (SO_PEERCRED in unix(7)), and no
app is either. So the proxy is in groups that are drawn for its pod. An attempt to be taken for it has one group of its
own and at most 65,536 others (NGROUPS_MAX), of 2^31: it succeeds once in 2^91.
"""

import random
from dataclasses import dataclass

from mesh.platforms.netns.interception import Interception, rules

PROXY_UID = 1337

_LOWEST, _HIGHEST = 1 << 16, (1 << 31) - 1  # above those of any image's /etc/group, below what the engine takes
_GROUPS = 4


@dataclass(frozen=True, slots=True)
class ProxyIds:
    """One pod's proxy, as the kernel knows it: Istio's uid, its own group, and further ones. Not for an app to see."""

    gid: int
    groups: tuple[int, ...]

    @classmethod
    def drawn(cls) -> "ProxyIds":
        gid, *groups = random.SystemRandom().sample(range(_LOWEST, _HIGHEST), 1 + _GROUPS)
        return cls(gid, tuple(groups))

    @property
    def user(self) -> str:
        """As the engine wants it."""
        return f"{PROXY_UID}:{self.gid}"

    @property
    def match(self) -> str:
        """Of iptables: each group is asked for by a match of its own, and all of them must hold."""
        further = "".join(f" -m owner --gid-owner {group} --suppl-groups" for group in self.groups)
        return f"-m owner --uid-owner {PROXY_UID} --gid-owner {self.gid}{further}"


def pod_rules(wanted: Interception | None, control: str, proxy: ProxyIds) -> str:
    """The input of `iptables-restore`; nothing where nothing is captured. `control` is where DNS and the control plane
    are."""
    return "" if wanted is None else rules(wanted, control, proxy.match)
