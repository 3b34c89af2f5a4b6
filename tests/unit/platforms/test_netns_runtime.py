"""When a pod's containers start: as soon as its network is wired, for which the event loop does not wait."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import cast

import pytest

from mesh.platforms.base import ExecResult, PlatformError
from mesh.platforms.netns.runtime import PodRuntime
from mesh.platforms.probes import Target
from mesh.platforms.process.container import ContainerPlan, Running

LIFE = cast(Running, object())
PATIENCE_S = 20.0


class Launcher:
    """Says whether it was asked to run something."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def run(self, plan: ContainerPlan) -> Running:
        self.ran.append(plan.name)
        return LIFE

    async def exec(self, plan: ContainerPlan, command: Sequence[str], timeout_s: float) -> ExecResult:
        raise AssertionError("nothing is run beside it")


def plan() -> ContainerPlan:
    target = Target("127.0.0.1", {}, {})
    return ContainerPlan(name="app", label="web.app", argv=["app"], env={}, cwd=Path("/"), log=Path("/"), target=target)


def in_loop(work: Callable[[Launcher, PodRuntime], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(PATIENCE_S):
            launcher = Launcher()
            await work(launcher, PodRuntime(launcher))

    asyncio.run(run())


def test_containers_wait_for_their_network_and_the_loop_for_neither() -> None:
    async def work(launcher: Launcher, runtime: PodRuntime) -> None:
        begun, go = threading.Event(), threading.Event()

        def wire() -> None:
            begun.set()
            assert go.wait(PATIENCE_S), "the loop stood still"

        async with asyncio.TaskGroup() as group:
            group.create_task(runtime.bring_up(wire))
            running = group.create_task(runtime.run(plan()))
            settled = group.create_task(runtime.settled())
            await asyncio.to_thread(begun.wait)
            assert launcher.ran == []
            assert not settled.done()
            go.set()
        assert (running.result(), launcher.ran) == (LIFE, ["app"])
        assert await runtime.run(plan()) is LIFE

    in_loop(work)


def test_a_network_that_cannot_be_wired_is_told_by_each_container() -> None:
    def wire() -> None:
        raise PlatformError("no wire")

    async def work(launcher: Launcher, runtime: PodRuntime) -> None:
        await runtime.bring_up(wire)
        await runtime.settled()
        for _ in range(2):
            with pytest.raises(OSError, match="no wire"):
                await runtime.run(plan())
        assert launcher.ran == []

    in_loop(work)
