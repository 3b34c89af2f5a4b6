"""Probes: when to run one and what its results mean (pure), and running one (HTTP, TCP, command).

Source: Kubernetes, "Configure Liveness, Readiness and Startup Probes".
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from mesh.api.pod import ContainerPort, HTTPGetAction, Probe
from mesh.platforms.base import ExecResult, PlatformError

_EAGER_S = 0.1
_MAX_HEAD = 16 * 1024

Exec = Callable[[Sequence[str], float], Awaitable[ExecResult]]
Dial = Callable[[str, int], Awaitable[socket.socket]]
"""A connection to a host and port, made wherever the platform probes from. Raises OSError."""


@dataclass(slots=True)
class Tally:
    """Counts a probe's results. `verdict` is None until a threshold is reached for the first time."""

    success_threshold: int
    failure_threshold: int
    verdict: bool | None = None
    _run: int = 0
    _last: bool | None = None

    def add(self, succeeded: bool) -> bool:
        """Takes one result. True when the verdict is reached anew or confirmed by it."""
        self._run = self._run + 1 if succeeded is self._last else 1
        self._last = succeeded
        threshold = self.success_threshold if succeeded else self.failure_threshold
        if self._run < threshold:
            return False
        self.verdict = succeeded
        return True


def eager_pause_s(probe: Probe) -> float:
    """Seconds between runs before the first verdict. Kubernetes may probe off schedule then, so that a pod is ready
    sooner, and so do we; but only successes come sooner, failures are counted at the declared period."""
    return min(_EAGER_S, float(probe.period_seconds))


@dataclass(frozen=True, slots=True)
class Target:
    """Where a container's probes go: the pod's address, and the port where the app really listens for each declared.

    Without `dial` they come from this process's own network.
    """

    address: str
    ports: Mapping[int, int]
    named: Mapping[str, int]
    dial: Dial | None = None

    @classmethod
    def of(
        cls, address: str, declared: Sequence[ContainerPort], app_ports: Mapping[int, int], dial: Dial | None = None
    ) -> "Target":
        return cls(address, app_ports, {port.name: port.container_port for port in declared if port.name}, dial)

    async def connect(
        self, host: str, port: int, context: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.dial is None:
            return await asyncio.open_connection(host, port, ssl=context, limit=_MAX_HEAD)
        sock = await self.dial(host, port)
        name = None if context is None else host
        return await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name, limit=_MAX_HEAD)

    def resolve(self, port: int | str) -> int:
        number = self.named.get(str(port), port)
        if isinstance(number, str):
            if not number.isdigit():
                raise PlatformError(f'probe: no port of the container is named "{port}"')
            number = int(number)
        return self.ports.get(number, number)


def check(probe: Probe | None, target: Target) -> None:
    """Raises PlatformError for a probe that could not be run: a kind that is not supported, a port without a number."""
    if probe is None:
        return
    if probe.grpc is not None:
        raise PlatformError("a probe of kind grpc is not run by this platform; use httpGet, tcpSocket or exec")
    action = probe.http_get or probe.tcp_socket
    if action is not None:
        target.resolve(action.port)


async def run_probe(probe: Probe, target: Target, execute: Exec) -> str | None:
    """Runs the probe once, within its timeout. None if it succeeded, else why not, in words."""
    try:
        async with asyncio.timeout(probe.timeout_seconds):
            if probe.http_get is not None:
                return await _http(probe.http_get, target)
            if probe.tcp_socket is not None:
                action = probe.tcp_socket
                _, writer = await target.connect(action.host or target.address, target.resolve(action.port))
                writer.close()
                return None
            if probe.exec is not None:
                result = await execute(probe.exec.command, probe.timeout_seconds)
                return None if result.code == 0 else f"exit code {result.code}: {result.output.strip()[-200:]}"
            raise PlatformError("the probe has no handler")
    except TimeoutError:
        return f"no answer within {probe.timeout_seconds} s"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)


async def _http(action: HTTPGetAction, target: Target) -> str | None:
    host, port = action.host or target.address, target.resolve(action.port)
    context = _unverified() if action.scheme == "HTTPS" else None
    reader, writer = await target.connect(host, port, context)
    try:
        headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe/1.32", "Accept": "*/*", "Connection": "close"}
        headers |= {header.name: header.value for header in action.http_headers}
        lines = [f"GET {action.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode())
        status = (await reader.readline()).split()
    finally:
        writer.close()
    if len(status) < 2 or not status[1].isdigit():
        return f"http://{host}:{port}{action.path} did not answer with HTTP"
    code = int(status[1])
    return None if 200 <= code < 400 else f"http://{host}:{port}{action.path} answered {code}"


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()  # the kubelet does not verify either: it asks for life, not for identity
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
