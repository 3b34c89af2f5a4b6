"""What of a pod a platform on this machine does not carry out.

It is refused by name, because a pod that lacks it would seem to run, and fail in ways that nobody can explain.
"""

import os
from collections.abc import Iterator, Sequence

from mesh.api.pod import Container, Pod
from mesh.platforms.base import PlatformError
from mesh.platforms.process.volumes import CONFIG_MAP, EMPTY_DIR, SECRET, empty_dirs, kind_of

_ELSEWHERE = (
    "whose apps all see the files of this host: take it as variables (envFrom), or use --platform netns or docker"
)


def refuse_what_is_lacking(pod: Pod, *, platform: str = "process", images: bool = False) -> None:
    """Raises PlatformError with every reason. `images`: the platform runs them, so a container may leave its command to
    its image."""
    reasons = list(_of_pod(pod, platform))
    for container in pod.spec.all_containers:
        if not container.command and not images:
            reasons.append(_no_command(container))
        reasons += _of_lifecycle(container, platform)
        if container.restart_policy is not None:
            reasons.append(_own_policy(container, platform))
        reasons += _of_mounts(container, platform, empty_dirs(pod))
    if reasons:
        raise PlatformError("; ".join(reasons))


def _of_pod(pod: Pod, platform: str) -> Iterator[str]:
    # An empty folder is what the host's file system already is to a process.
    mounted = (EMPTY_DIR,) if platform == "process" else (CONFIG_MAP, EMPTY_DIR, SECRET)
    for volume in pod.spec.volumes:
        kind = kind_of(volume)
        if kind not in mounted:
            text = f'volume "{volume["name"]}" ({kind}) is not mounted by the {platform} platform'
            yield f"{text}, {_ELSEWHERE}" if kind in (CONFIG_MAP, SECRET) else text


def _of_mounts(container: Container, platform: str, empty: Sequence[str]) -> Iterator[str]:
    for mount in container.volume_mounts:
        place = f'container "{container.name}": the volume at {mount.mount_path}'
        if mount.sub_path_expr:
            yield f"{place}: subPathExpr is not carried out by the {platform} platform; use subPath"
        if mount.sub_path and mount.name in empty and platform in ("docker", "compose"):
            yield f"{place}: subPath of an emptyDir is not carried out by the {platform} platform"
        if os.path.normpath(mount.mount_path).strip("/") == "":
            yield f"{place} would cover all files"


def _no_command(container: Container) -> str:
    return (
        f'container "{container.name}" has no command: the process platform runs no images, '
        f'so it needs the command that image "{container.image}" would run'
    )


def _own_policy(container: Container, platform: str) -> str:
    text = f'container "{container.name}": a restartPolicy of its own is not carried out by the {platform} platform'
    return f"{text}; list a sidecar in containers" if container.restart_policy == "Always" else text


def _of_lifecycle(container: Container, platform: str) -> Iterator[str]:
    lifecycle = container.lifecycle
    if lifecycle is None:
        return
    if lifecycle.post_start is not None:
        yield f'container "{container.name}": lifecycle.postStart is not carried out by the {platform} platform'
    pre_stop = lifecycle.pre_stop
    if pre_stop is not None and pre_stop.exec is None and pre_stop.sleep is None:
        yield f'container "{container.name}": lifecycle.preStop is carried out for exec and sleep only'
