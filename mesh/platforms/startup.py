"""Waiting for a mesh to be ready, and saying why it is not."""

import asyncio
import time
from typing import Protocol

from mesh.api.pod import ContainerStatus
from mesh.platforms.base import Platform, PlatformError
from mesh.platforms.node.manifests import state_word
from mesh.platforms.node.node import Node
from mesh.platforms.node.worker import PodWorker
from mesh.platforms.process.logs import tail

_CRASHES = 3
_LOG_LINES = 15


class Progress(Protocol):
    """Whoever watches a mesh come up."""

    def say(self, message: str) -> None: ...

    def pods(self, ready: int, total: int, waiting: list[str]) -> None:
        """`waiting` are the pods not ready yet."""

    def ready(self, url: str) -> None: ...


async def wait_until_ready(node: Node, platform: Platform, progress: Progress, timeout_s: float) -> None:
    """Returns when every pod that should be there is ready.

    Raises PlatformError when one cannot be, crashes again and again, or is late; the text ends with its log.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        node.changed.clear()
        pods = node.workers()
        _raise_failures(node, pods, platform)
        waiting = [pod.name for pod in pods if not pod.ready]
        progress.pods(len(pods) - len(waiting), max(node.wanted(), len(pods)), waiting)
        if not waiting and len(pods) == node.wanted():
            return
        try:
            await asyncio.wait_for(node.changed.wait(), deadline - time.monotonic())
        except TimeoutError:
            raise PlatformError(_late(pods, platform, timeout_s)) from None


def _raise_failures(node: Node, pods: list[PodWorker], platform: Platform) -> None:
    for (namespace, name), problem in node.problems.items():
        raise PlatformError(f"deployment {namespace}/{name}: {problem}")
    for pod in pods:
        if pod.problem:
            raise PlatformError(f"pod {pod.name} cannot run: {pod.problem}")
        for container in (*pod.init_statuses(), *pod.statuses()):
            if container.restart_count >= _CRASHES and not container.ready:
                why = _last_end(container)
                raise PlatformError(
                    _with_log(f"pod {pod.name}: container {container.name} {why}", pod, container, platform)
                )


def _last_end(container: ContainerStatus) -> str:
    ended = container.last_state.get("terminated") or container.state.get("terminated") or {}
    return f"crashed {container.restart_count + 1} times, lastly: {ended.get('message', 'unknown')}"


def _late(pods: list[PodWorker], platform: Platform, timeout_s: float) -> str:
    lines = [f"not ready after {timeout_s:g} s:"]
    for pod in pods:
        incomplete = [container for container in pod.init_statuses() if not container.ready]
        if incomplete:  # the others wait for it
            text = f"pod {pod.name}: init container {incomplete[0].name} is {state_word(incomplete[0])}"
            lines.append(_with_log(text, pod, incomplete[0], platform))
            continue
        for container in pod.statuses():
            if not container.ready:
                text = f"pod {pod.name}: container {container.name} is {_unready(container)}"
                lines.append(_with_log(text, pod, container, platform))
    return "\n".join(lines)


def _unready(container: ContainerStatus) -> str:
    word = state_word(container)
    return "running, but its readiness probe does not succeed" if word == "Running" else word


def _with_log(text: str, pod: PodWorker, container: ContainerStatus, platform: Platform) -> str:
    file = platform.log(pod.name, container.name)
    lines = tail(file, _LOG_LINES)
    if not lines:
        return f"{text}\n  its log {file} is empty"
    return "\n".join([text, f"  the end of {file}:", *(f"  | {line}" for line in lines)])
