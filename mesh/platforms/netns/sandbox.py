"""What a container of a pod runs in: the pod's network, and process, mount, IPC and host name spaces of its own.

It has no capabilities, or those it is given, and can gain none. It sees the host's files read-only, but for its folder
of work and for temporary ones; of the mesh's state only what is its own; no device but the harmless ones; no process of
another container; and nothing of `/run`, where the sockets of the host's services are.

Everything here runs between fork and exec, in a copy of the node.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mesh.platforms.netns import linux
from mesh.platforms.netns.init import run_as_init, run_as_shim
from mesh.platforms.netns.mount_points import MountPoints, make_file
from mesh.platforms.process.volumes import Mount

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_STAGE = "/dev/.volumes"
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a file system of the container's own
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)
_JOINED = (
    ("net", linux.CLONE_NEWNET),
    ("uts", linux.CLONE_NEWUTS),
    ("ipc", linux.CLONE_NEWIPC),
    ("pid", linux.CLONE_NEWPID),
    ("mnt", linux.CLONE_NEWNS),  # last: the others are found by paths of this one
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """Paths are absolute and without links.

    `network` is the pod's namespace. `hidden` is the mesh's state, in which only `kept` stays to be seen and written.
    `protected` are read-only even where they lie within `writable`. `etc` are files put over those of the host, and
    `mounts` are volumes, with the host's paths as sources.
    """

    network: int
    hostname: str
    cwd: str
    hidden: str
    kept: str = ""
    writable: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    etc: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    capabilities: tuple[int, ...] = ()

    def enter(self) -> None:
        """Returns in the process that is to become the container's. Two copies of this one stay: what the node knows as
        the container's process, and the first process of its pid namespace."""
        read_end, write_end = os.pipe()
        linux.setns(self.network, linux.CLONE_NEWNET)
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS)
        first = os.fork()
        if first != 0:
            _close_all_but(read_end)
            run_as_shim(first, read_end)
        _reported(self._become_container, write_end)

    def join(self, container: int) -> Callable[[], None]:
        """As `enter`, for a command beside the container whose process the node knows by the pid `container`."""

        def enter() -> None:
            read_end, write_end = os.pipe()
            _join_namespaces(first_process(container))
            child = os.fork()
            if child != 0:
                os.close(write_end)
                _close_all_but(read_end)
                run_as_shim(child, read_end)
            os.close(read_end)
            os.close(write_end)
            linux.die_with(0)
            os.chdir(self.cwd)
            linux.keep_capabilities(self.capabilities)

        return enter

    def _become_container(self, write_end: int) -> None:
        linux.die_with(0)
        linux.set_hostname(self.hostname)
        self._mount()
        main = os.fork()
        if main != 0:
            _close_all_but(write_end)
            # A copy of the node, and it keeps the lab's capabilities: who has fewer cannot look into it.
            run_as_init(main, write_end)
        os.close(write_end)
        os.chdir(self.cwd)
        linux.keep_capabilities(self.capabilities)

    def _mount(self) -> None:
        devices = _held(f"/dev/{name}" for name in _DEVICES if Path(f"/dev/{name}").exists())
        own = _held([self.kept] if self.kept else [])
        etc = {os.path.realpath(target): source for target, source in self.etc.items()}
        files = _held(etc.values())
        volumes = _held(mount.source for mount in self.mounts)
        for folder in (*self.writable, *self.protected):
            linux.bind(folder, folder)
        for covered in (self.hidden, "/run", "/dev"):
            _cover(covered)
        _show(own)
        for target, source in etc.items():
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            _show({target: files[source]}, is_file=True)
        _show(devices, is_file=True)
        for name, leads_to in _LINKS:
            os.symlink(leads_to, f"/dev/{name}")
        os.mkdir(_SHARED_MEMORY, 0o1777)
        linux.mount("tmpfs", _SHARED_MEMORY, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=1777")
        seen = self._mount_volumes(volumes)
        linux.set_read_only("/", True, recursive=True)
        for folder in (*self.writable, _SHARED_MEMORY, *([self.kept] if self.kept else []), *seen):
            linux.set_read_only(folder, False, recursive=False)
        linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC | linux.MS_RDONLY)

    def _mount_volumes(self, held: Mapping[str, int]) -> list[str]:
        """Where those are that may be written. One within another comes after it."""
        if not held:
            return []
        staged = {source: f"{_STAGE}/{number}" for number, source in enumerate(held)}
        os.mkdir(_STAGE)
        # A descriptor leads nowhere once the root that it was opened below has gone; what is mounted goes along.
        for source, place in staged.items():
            opened = f"/proc/self/fd/{held[source]}"
            (os.mkdir if os.path.isdir(opened) else make_file)(place)
            linux.bind(opened, place)
            os.close(held[source])
        points = MountPoints((self.hidden, "/run", "/dev", *self.writable))
        writable = []
        for mount in sorted(self.mounts, key=lambda mount: mount.target):
            place = staged[mount.source]
            target = points.make(mount.target, is_file=not os.path.isdir(place))
            linux.bind(place, target)
            if mount.writable:
                writable.append(target)
        for place in staged.values():
            linux.unmount(place)
        shutil.rmtree(_STAGE)
        return writable


def first_process(container: int) -> int:
    """The first process of a container's pid namespace: the child of the one the node knows. Raises OSError."""
    children = Path(f"/proc/{container}/task/{container}/children").read_text().split()
    if not children:
        raise ProcessLookupError(f"container process {container} has ended")
    return int(children[0])


def _join_namespaces(pid: int) -> None:
    held = [(linux.open_namespace(name, pid), kind) for name, kind in _JOINED]
    for fd, kind in held:
        linux.setns(fd, kind)
        os.close(fd)


def _reported(step: Callable[[int], None], argument: int) -> None:
    """What goes wrong is said in the container's log, as `subprocess` passes on no more than that something did."""
    try:
        step(argument)
    except OSError as error:
        os.write(2, f"the container's namespaces cannot be made: {error}\n".encode())
        raise


def _held(paths: Iterable[str]) -> dict[str, int]:
    return {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths}


def _cover(folder: str) -> None:
    if os.path.isdir(folder):
        linux.mount("tmpfs", folder, "tmpfs", linux.MS_NOSUID, "mode=0755,size=64k")


def _show(held: Mapping[str, int], *, is_file: bool = False) -> None:
    """What descriptors hold, at its old place again."""
    for target, fd in held.items():
        if is_file and not os.path.exists(target):
            make_file(target)
        elif not is_file:
            Path(target).mkdir(parents=True, exist_ok=True)
        linux.bind(f"/proc/self/fd/{fd}", target)
        os.close(fd)


def _close_all_but(kept: int) -> None:
    """Also the pipe by which `subprocess` waits for exec, so that it waits for the container's process alone."""
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
