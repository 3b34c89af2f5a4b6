"""As whom a container's processes run, and with what rights. Pure.

Source: Kubernetes' API of SecurityContext, and the kubelet's words for what it refuses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mesh.api.pod import Container
from mesh.api.security_context import PodSecurityContext
from mesh.platforms.base import PROXY_CONTAINER, PlatformError
from mesh.platforms.docker.rules import PROXY_UID

_ROOT = ("", "root", "0")
_STEPPING_DOWN = frozenset(("CHOWN", "DAC_OVERRIDE", "FOWNER", "NET_BIND_SERVICE", "SETGID", "SETUID"))
"""What images that start as root use to become somebody else: nginx, MariaDB, PostgreSQL, Redis."""


@dataclass(frozen=True, slots=True)
class Rights:
    """`user` is the engine's `uid:gid`, None for the image's own."""

    user: str | None
    groups: tuple[int, ...] = ()
    capabilities: tuple[str, ...] = ()
    read_only: bool = False


def rights_of(container: Container, pod: PodSecurityContext, image: Mapping[str, Any]) -> Rights:
    """Of an app's container with this image. Raises PlatformError for what no app is given, as it would lead around the
    proxy, and for what would do so in Istio."""
    own = container.security_context
    of_image = str((image.get("Config") or {}).get("User") or "")
    name, user = _user(container, pod, of_image)
    if user is not None and name == str(PROXY_UID) != of_image.partition(":")[0]:
        raise PlatformError(
            f'container "{container.name}": runAsUser {PROXY_UID} passes the sidecar by in Istio, and does not here; '
            "leave it out, or name what is not to be captured by traffic.sidecar.istio.io/excludeOutbound..."
        )
    if pod.run_as_non_root if own.run_as_non_root is None else own.run_as_non_root:
        _must_not_be_root(container, name)
    groups = (*pod.supplemental_groups, *(() if pod.fs_group is None else (pod.fs_group,)))
    kept = _capabilities(container, is_root=name in _ROOT)
    return Rights(user, groups, kept, own.read_only_root_filesystem)


def check_proxy(container: Container) -> None:
    """The proxy's rights are ours. Raises PlatformError where it asks for another user."""
    uid = container.security_context.run_as_user
    if uid not in (None, PROXY_UID):
        raise PlatformError(f'container "{PROXY_CONTAINER}" runs as uid {PROXY_UID}, and not as {uid}')


def _user(container: Container, pod: PodSecurityContext, of_image: str) -> tuple[str, str | None]:
    """The user that it runs as, and what the engine is to be told of that."""
    own = container.security_context
    uid = pod.run_as_user if own.run_as_user is None else own.run_as_user
    gid = pod.run_as_group if own.run_as_group is None else own.run_as_group
    name = of_image.partition(":")[0] if uid is None else str(uid)
    if gid is not None:
        return name, f"{name or 0}:{gid}"
    return name, None if uid is None else name


def _must_not_be_root(container: Container, user: str) -> None:
    if user in _ROOT:
        raise PlatformError(f'container "{container.name}" has runAsNonRoot and would run as root')
    if not user.isdigit():
        raise PlatformError(
            f'container "{container.name}" has runAsNonRoot and image has non-numeric user ({user}), '
            "cannot verify user is non-root"
        )


def _capabilities(container: Container, *, is_root: bool) -> tuple[str, ...]:
    """Nothing, but root cannot step down without these."""
    own = container.security_context
    added, dropped = (
        {name.upper().removeprefix("CAP_") for name in names} for names in (own.capabilities.add, own.capabilities.drop)
    )
    if own.privileged or not added <= _STEPPING_DOWN:
        what = "privileged" if own.privileged else f"capability {', '.join(sorted(added - _STEPPING_DOWN))}"
        raise PlatformError(f'container "{container.name}": {what} would lead around the sidecar, and is not granted')
    kept = _STEPPING_DOWN - dropped if is_root and "ALL" not in dropped else frozenset()
    return tuple(sorted(kept | added))
