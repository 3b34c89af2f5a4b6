"""A burst of changes is one push, and changes without end are pushed all the same."""

from __future__ import annotations

import asyncio

from mesh.xds.ads.debounce import Debounce

WAIT_S = 10


def test_a_burst_fires_once() -> None:
    async def scenario() -> int:
        fired: list[int] = []
        done = asyncio.Event()
        debounce = Debounce(lambda: (fired.append(1), done.set()))
        for _ in range(5):
            debounce.trigger()
        async with asyncio.timeout(WAIT_S):
            await done.wait()
        return len(fired)

    assert asyncio.run(scenario()) == 1


def test_triggers_without_a_pause_do_not_put_it_off_for_ever() -> None:
    async def scenario() -> None:
        done = asyncio.Event()
        debounce = Debounce(done.set)
        async with asyncio.timeout(WAIT_S):
            while not done.is_set():
                debounce.trigger()
                await asyncio.sleep(0)
        debounce.cancel()

    asyncio.run(scenario())


def test_cancelled_it_does_not_fire() -> None:
    async def scenario() -> list[int]:
        fired: list[int] = []
        debounce = Debounce(lambda: fired.append(1))
        debounce.trigger()
        debounce.cancel()
        other = asyncio.Event()
        Debounce(other.set).trigger()
        async with asyncio.timeout(WAIT_S):
            await other.wait()
        return fired

    assert asyncio.run(scenario()) == []
