"""Volumes of a pod: what they hold, and where its containers see them. Nothing here tells what is in a Secret."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mesh.api.pod import Container, Pod, Volume
from mesh.platforms.base import PlatformError, Surroundings

EMPTY_DIR, CONFIG_MAP, SECRET = "emptyDir", "configMap", "secret"

_DEFAULT_MODE = 0o644
_FOLDER_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Mount:
    """What of a volume a container sees at `target`. `source` is a path of this host, or what the platform calls an
    empty folder."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class File:
    mode: int
    content: bytes = field(repr=False)


def kind_of(volume: Volume) -> str:
    """`configMap`, `hostPath`...; a volume that names nothing is an empty folder, as in Kubernetes."""
    return next((name for name in volume if name != "name"), EMPTY_DIR)


def empty_dirs(pod: Pod) -> list[str]:
    """The volumes that are empty folders."""
    return [volume["name"] for volume in pod.spec.volumes if kind_of(volume) == EMPTY_DIR]


def files_of(volume: Volume, surroundings: Surroundings) -> dict[str, File]:
    """What a volume of a ConfigMap or Secret holds, by relative path. Raises PlatformError, in the kubelet's words."""
    kind = kind_of(volume)
    source = volume[kind]
    name, optional = source.get("secretName" if kind == SECRET else "name", ""), source.get("optional", False)
    found = surroundings.secrets.get(name) if kind == SECRET else surroundings.config_maps.get(name)
    if found is None:
        if optional:
            return {}
        raise PlatformError(f'volume "{volume["name"]}": {kind.lower()} "{name}" not found')
    mode, entries = source.get("defaultMode", _DEFAULT_MODE), found.entries
    items = source.get("items") or [{"key": key, "path": key} for key in entries]
    missing = [item["key"] for item in items if item["key"] not in entries]
    if missing and not optional:
        word = "secret" if kind == SECRET else "config"
        raise PlatformError(f'volume "{volume["name"]}" references non-existent {word} key: {missing[0]}')
    there = [item for item in items if item["key"] in entries]
    return {item["path"]: File(item.get("mode", mode), entries[item["key"]]) for item in there}


class PodVolumes:
    """Of one pod. `folder` is the pod's own, made here; `empty_dir` makes an empty folder of the volume's name and says
    where it is. `mode_mask` are the permissions that files may have."""

    def __init__(
        self, pod: Pod, surroundings: Surroundings, folder: Path, empty_dir: Callable[[str], str], mode_mask: int
    ) -> None:
        """Raises PlatformError."""
        self._kinds = {volume["name"]: kind_of(volume) for volume in pod.spec.volumes}
        self._sources: dict[str, str] = {}
        for volume in pod.spec.volumes:
            name = volume["name"]
            if self._kinds[name] == EMPTY_DIR:
                self._sources[name] = empty_dir(name)
            else:
                self._sources[name] = str(folder / name)
                _write(folder / name, files_of(volume, surroundings), mode_mask)

    def mounts(self, container: Container) -> tuple[Mount, ...]:
        """Raises PlatformError."""
        return tuple(self._mounts(container))

    def _mounts(self, container: Container) -> Iterator[Mount]:
        for mount in container.volume_mounts:
            is_empty_dir = self._kinds[mount.name] == EMPTY_DIR
            source = os.path.join(self._sources[mount.name], mount.sub_path)
            if mount.sub_path and is_empty_dir:
                os.makedirs(source, exist_ok=True)
            if mount.sub_path and not os.path.exists(source):
                raise PlatformError(f'container "{container.name}": volume "{mount.name}" has no "{mount.sub_path}"')
            yield Mount(source.rstrip("/"), mount.mount_path, writable=is_empty_dir and not mount.read_only)


def _write(folder: Path, files: Mapping[str, File], mode_mask: int) -> None:
    folder.mkdir(parents=True)
    for path, file in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as out:
            out.write(file.content)
            os.fchmod(fd, file.mode & mode_mask)
    for inner, _, _ in os.walk(folder):
        os.chmod(inner, _FOLDER_MODE & mode_mask)  # whatever the umask
