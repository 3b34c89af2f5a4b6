"""The rules of a captured pod: Istio's, which knows the proxy by its uid. Pure."""

from mesh.platforms.netns.interception import Interception, rules

PROXY_UID = 1337

_OWNED = f"-m owner --uid-owner {PROXY_UID}", f"-m owner ! --uid-owner {PROXY_UID}"


def pod_rules(wanted: Interception | None, control: str) -> str:
    """The input of `iptables-restore`; nothing where nothing is captured. `control` is where DNS and the control plane
    are."""
    return "" if wanted is None else rules(wanted, control, _OWNED)
