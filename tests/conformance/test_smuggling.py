"""The corpus of malformed and ambiguous input, on both engines side by side: ours reads it as Envoy does or refuses it.

Whatever the two answer, nothing may reach an upstream through our sidecar that does not reach it through Envoy.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.case import CaseFile
from harness.scene import Scene
from harness.smuggling import MARK, PROBE, Input, corpus

AT_ONCE = 24
PATIENCE_S = 20.0
# What each engine says of itself and of the time: neither from the client nor about the message.
OWN_HEADERS = frozenset({"x-request-id", "x-envoy-expected-rq-timeout-ms"})
# Both end whatever is not complete by themselves, so that no input has to be waited for.
TIMES = {
    "stream_idle_timeout": "0.4s",
    "delayed_close_timeout": "0.1s",
    "common_http_protocol_options": {"idle_timeout": "0.8s"},
}
BOOTSTRAP = {
    "clusters": {"a": ["a"]},
    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "a"}}],
    "hcm": TIMES,
}


@dataclass(frozen=True)
class Forwarded:
    """One request as an upstream read it. A body that was cut short is less than the whole one."""

    start: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_complete: bool


@dataclass(frozen=True)
class Outcome:
    """What came of an input: the statuses that its client was given, and the requests that reached the upstream."""

    statuses: tuple[int, ...]
    forwarded: tuple[Forwarded, ...]


INPUTS = corpus()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Outcome]]:
    """What each engine made of each input, by the input's number."""
    return {engine: play(engine, tmp_path_factory.mktemp(engine)) for engine in ("envoy", "python")}


def play(engine: str, folder: Path) -> list[Outcome]:
    scene = Scene(engine, CaseFile("smuggling", "", BOOTSTRAP, ()), folder, folder)
    try:
        answers = scene.runner.run(send_all(scene))
        assert scene.engine.get("/ready")[0] == 200, scene.engine.output()
    finally:
        scene.close()
    reached: dict[int, list[Forwarded]] = {number: [] for number in range(len(INPUTS))}
    for record in scene.records:
        message = record.message
        number = re.search(r"/(\d+)", message.start)
        assert number is not None, f"{engine} forwarded what no input named: {message.start!r}"
        headers = sorted((name.lower(), value) for name, value in message.headers if name.lower() not in OWN_HEADERS)
        reached[int(number[1])].append(Forwarded(message.start, tuple(headers), message.body, record.complete))
    return [Outcome(statuses(answer), tuple(reached[number])) for number, answer in enumerate(answers)]


async def send_all(scene: Scene) -> list[bytes]:
    gate = asyncio.Semaphore(AT_ONCE)
    address = scene.frame.listeners["main"]

    async def one(number: int, item: Input) -> bytes:
        async with gate, asyncio.timeout(PATIENCE_S):
            return await send(address, item, str(number).encode())

    return await asyncio.gather(*(one(number, item) for number, item in enumerate(INPUTS)))


async def send(address: tuple[str, int], item: Input, number: bytes) -> bytes:
    """All that a connection answered until it was closed."""
    reader, writer = await asyncio.open_connection(*address)
    answer = b""
    try:
        writer.write((item.data if item.is_cut else item.data + PROBE).replace(MARK, number))
        await writer.drain()
        if item.is_cut:
            writer.write_eof()
        while piece := await reader.read(1 << 16):
            answer += piece
    except ConnectionError:
        pass  # the engine has reset the connection: what it said before is its answer
    finally:
        writer.close()
    return answer


def statuses(answer: bytes) -> tuple[int, ...]:
    return tuple(int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", answer) if status != b"100")


@pytest.mark.envoy
@pytest.mark.parametrize("number", range(len(INPUTS)), ids=[item.name for item in INPUTS])
def test_an_input_is_read_as_envoy_reads_it_or_refused(number: int, outcomes: dict[str, list[Outcome]]) -> None:
    envoy, ours = outcomes["envoy"][number], outcomes["python"][number]
    same = 0
    for mine, theirs in zip(ours.statuses, envoy.statuses, strict=False):
        if mine != theirs:
            break
        same += 1
    rest = ours.statuses[same:]
    assert not rest or (len(rest) == 1 and rest[0] >= 400), f"answered {ours.statuses}, Envoy {envoy.statuses}"
    for mine, theirs in zip(ours.forwarded, envoy.forwarded, strict=False):
        assert (mine.start, mine.headers) == (theirs.start, theirs.headers)
        assert mine.body == theirs.body if mine.is_complete else theirs.body.startswith(mine.body)
        assert theirs.is_complete or not mine.is_complete, "complete here, and not on Envoy"
    assert len(ours.forwarded) <= len(envoy.forwarded), f"forwarded more than Envoy: {ours.forwarded}"


def test_the_corpus_is_read_as_envoy_reads_it_for_the_most_part(outcomes: dict[str, list[Outcome]]) -> None:
    """To refuse everything would pass each test above."""
    pairs = zip(outcomes["python"], outcomes["envoy"], strict=True)
    same = sum(mine.statuses == theirs.statuses for mine, theirs in pairs)
    assert same >= 0.85 * len(INPUTS), f"{same} of {len(INPUTS)}"
