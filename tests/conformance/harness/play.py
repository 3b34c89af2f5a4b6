"""Plays one case on a scene, step by step, and collects every difference."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.case import Case, Expect, Request, Step
from harness.client import Answer, Connection
from harness.engines import PATIENCE
from harness.http2_client import Http2Connection
from harness.judge import differ, judge_answer, judge_forwarded, judge_log, judge_record, judge_stats, matches
from harness.pki import ssl_context, write_secret
from harness.scene import Scene
from harness.spans import missing, spans
from harness.upstream import Record


def play(scene: Scene, case: Case) -> list[str]:
    """The differences between what the case expects and what the engine did."""
    return scene.runner.run(Player(scene, case).play())


class Player:
    """The state of one case: its connections, what runs in the background, and the stats it began with."""

    def __init__(self, scene: Scene, case: Case) -> None:
        self._scene = scene
        self._case = case
        self._connections: dict[str, Connection | Http2Connection] = {}
        self._resuming: dict[str, ssl.SSLContext] = {}
        self._logged: dict[str, int] = {}
        # What the logs held before a client connected, by its address, as earlier clients may have had the same port:
        # how many entries there were of that address, and how many lines of text of anybody's.
        self._earlier: dict[str, tuple[int, int]] = {}
        self._background: dict[str, tuple[Request, asyncio.Task[Answer]]] = {}
        self._before: Mapping[str, int] = {}
        self._problems: list[str] = []

    async def play(self) -> list[str]:
        self._scene.script(self._case.upstream)
        self._scene.script_health(self._case.health or {})
        if self._case.stats or any(step.stats for step in self._case.steps):
            self._before = await asyncio.to_thread(self._scene.engine.stats)
        try:
            for number, step in enumerate(self._case.steps, 1):
                found = [problem async for problem in self._step(self._own_expectation(step))]
                where = f"step {number}: " if len(self._case.steps) > 1 else ""
                self._problems += [where + problem for problem in found]
            self._problems += await self._judge_stats(self._case.stats)
        finally:
            await self._clean_up()
        return self._problems

    def _own_expectation(self, step: Step) -> Step:
        """The step with what this engine is known to do otherwise, if the case declares a difference."""
        differs = self._case.differs
        if not differs or self._scene.engine_name != "python" or step.expect is None:
            return step
        return replace(step, expect=replace(step.expect, **differs["expect"]))

    async def _clean_up(self) -> None:
        for _, task in self._background.values():
            task.cancel()
        await asyncio.gather(*(task for _, task in self._background.values()), return_exceptions=True)
        for upstream in self._scene.upstreams.values():
            upstream.release()
        for connection in self._connections.values():
            connection.close()

    async def _step(self, step: Step) -> AsyncIterator[str]:
        if step.upstream is not None:
            self._scene.script(step.upstream)
        if step.reload is not None:
            self._scene.frame.build(step.reload)
        for name, cert in (step.secret or {}).items():
            write_secret(self._scene.certificates, self._scene.frame.directory / "secrets", name, cert)
        if step.health is not None:
            self._scene.script_health(step.health)
        for name, wanted in (step.checked or {}).items():
            for problem in await self._await_checked(name, wanted):
                yield problem
        if step.request is not None:
            for problem in await (self._eventually(step) if step.eventually else self._request(step)):
                yield problem
        for name, count in (step.held or {}).items():
            for problem in await self._await_held(name, count):
                yield problem
        if step.release is not None:
            names = self._scene.upstreams if step.release == "all" else [step.release]
            for name in names:
                self._scene.upstreams[name].release()
        if step.finish is not None:
            for problem in await self._finish(step.finish, step.expect or Expect()):
                yield problem
        if step.admin is not None:
            for problem in await self._admin(step.admin):
                yield problem
        if step.spans is not None:
            for problem in await self._spans(step.spans):
                yield problem
        if step.logged is not None:
            for problem in await self._collected(step.logged):
                yield problem
        for problem in await self._judge_stats(step.stats or {}):
            yield problem

    async def _collected(self, wanted: list[Mapping[str, Any]]) -> list[str]:
        """What is not there of the access log messages that the collector is to receive."""

        def problems() -> list[str]:
            seen = [json.loads(record.message.body) for record in self._scene.reports]
            return [
                f"no message holds {one}; there are {seen}"
                for one in wanted
                if not any(_holds(each, one) for each in seen)
            ]

        await self._scene.until(lambda: not problems())
        return problems()

    async def _spans(self, wanted: list[Mapping[str, Any]]) -> list[str]:
        """What is not there of the spans that the collector is to receive."""

        def problems() -> list[str]:
            return missing(wanted, spans(record.message for record in self._scene.reports))

        await self._scene.until(lambda: not problems())
        return problems()

    async def _request(self, step: Step) -> list[str]:
        expect = step.expect or Expect()
        first = len(self._scene.records)
        if step.background is not None:
            task = asyncio.create_task(self._exchange(step.request, Expect()))
            self._background[step.background] = (step.request, task)
            return []
        problems: list[str] = []
        for _ in range(step.repeat):
            answer = await self._exchange(step.request, expect)
            problems += judge_answer(expect, answer)
        problems += judge_forwarded(expect, self._scene.records[first:])
        for name, wanted in (expect.mirrored or {}).items():
            problems += await self._await_mirrored(name, wanted, first)
        return problems + await self._log(expect, step.request, answer)

    async def _await_mirrored(self, name: str, wanted: Mapping[str, Any], first: int) -> list[str]:
        """Wait until the whole request has reached an upstream, for requests that come there beside each other."""

        def arrived() -> list[Record]:
            return [record for record in self._scene.records[first:] if record.upstream == name and record.complete]

        if not await self._scene.until(lambda: bool(arrived())):
            return [f"{name} got no request"]
        return list(judge_record(wanted, arrived()[0]))

    async def _eventually(self, step: Step) -> list[str]:
        """The request again and again until it goes as expected, for what an engine settles between its threads."""
        deadline = time.monotonic() + PATIENCE
        problems = await self._request(step)
        while problems and time.monotonic() < deadline:
            problems = await self._request(step)
        return problems

    async def _await_held(self, name: str, count: int) -> list[str]:
        upstream = self._scene.upstreams[name]
        if await self._scene.until(lambda: upstream.held == count):
            return []
        return [f"{name} holds {upstream.held} requests, not {count}"]

    async def _await_checked(self, name: str, wanted: Mapping[str, Any]) -> list[str]:
        """Wait until an upstream has had a health check, and judge it as a forwarded request is."""
        checks = self._scene.upstreams[name].checks
        before = len(checks)
        if not await self._scene.until(lambda: len(checks) > before and checks[-1].complete):
            return [f"{name} was not checked"]
        return list(judge_record(wanted, checks[-1]))

    async def _finish(self, name: str, expect: Expect) -> list[str]:
        request, task = self._background.pop(name)
        answer = await task
        return [*judge_answer(expect, answer), *await self._log(expect, request, answer)]

    async def _exchange(self, request: Request, expect: Expect) -> Answer:
        first = len(self._scene.records)
        request = self._scene.addressed(request)
        try:
            connection = await self._connect(request)
        except (ssl.SSLError, ConnectionError) as error:
            return Answer(connection="refused", received=str(error).encode())
        try:
            answer = await connection.exchange(request)
            if request.abandon or request.cancel is not None:
                await self._scene.until(lambda: len(self._scene.records) > first)
            if request.cancel is not None:
                await connection.cancel(request.cancel)
            if expect.connection is not None and not answer.cut:
                answer.connection = answer.connection or await connection.fate(expect.connection)
        finally:
            if request.via is None:
                connection.close()
        self._logged[answer.local] = self._logged.get(answer.local, 0) + (1 if request.tcp else request.responses)
        return answer

    async def _connect(self, request: Request) -> Connection | Http2Connection:
        if request.via in self._connections:
            return self._connections[request.via]
        context = None
        if request.tls is not None:
            context = self._client_context(request.tls)
        address = self._scene.frame.listeners[request.listener]
        sni = (request.tls or {}).get("sni")
        entries, lines = self._scene.log.counts(), len(self._scene.text_log.lines())
        connection: Connection | Http2Connection
        if request.protocol == "h2":
            connection = await Http2Connection.open(address, context, sni, request)
        else:
            connection = await Connection.open(*address, context, sni, request.preface)
        if request.via is not None:
            self._connections[request.via] = connection
        self._logged[connection.local] = 0
        self._earlier[connection.local] = entries.get(connection.local, 0), lines
        return connection

    def _client_context(self, tls: Mapping[str, Any]) -> ssl.SSLContext:
        name = tls.get("resume")
        if name in self._resuming:
            return self._resuming[name]
        context = ssl_context(self._scene.certificates, tls, server=False)
        if name is not None:
            self._resuming[name] = context
        return context

    async def _log(self, expect: Expect, request: Request, answer: Answer) -> list[str]:
        problems = []
        if expect.closed is not None:
            # Ports are used again only after long: a client's connections are told apart by its address.
            line = await self._scene.connection_log.wait_for(answer.local, 0)
            problems += list(differ("connection log", expect.closed, line and line.partition(" ")[2]))
        if expect.line is not None:
            line = await self._scene.text_log.wait_for(answer.local, self._earlier.get(answer.local, (0, 0))[1])
            problems += list(differ("log line", expect.line, line and self._scene.named(line)))
        if expect.flags is None and expect.details is None and expect.log is None:
            return problems
        number = self._earlier.get(answer.local, (0, 0))[0] + self._logged.get(answer.local, 1) - 1
        entry = await self._scene.log.wait_for(answer.local, number)
        named = entry and {key: self._scene.named(value) for key, value in entry.items()}
        return problems + list(judge_log(expect, named))

    async def _admin(self, wanted: Mapping[str, Any]) -> list[str]:
        method = "POST" if "post" in wanted else "GET"
        page = wanted[method.lower()]
        status, text = await asyncio.to_thread(self._scene.engine.get, page, method)
        return list(self._judge_page(wanted, page, status, text))

    @staticmethod
    def _judge_page(wanted: Mapping[str, Any], page: str, status: int, text: str) -> Iterator[str]:
        yield from differ("admin status", wanted.get("status", 200), status)
        for part in wanted.get("has", []):
            if part not in text:
                yield f"{page}: wanted {part!r} in it, saw {text[:2000]!r}"
        for part in wanted.get("lacks", []):
            if part in text:
                yield f"{page}: wanted no {part!r} in it"

    async def _judge_stats(self, wanted: Mapping[str, int]) -> list[str]:
        if not wanted:
            return []

        def settled(stats: Mapping[str, int]) -> bool:
            return not list(judge_stats(wanted, self._before, stats))

        after = await self._scene.engine.wait_for(settled, PATIENCE)
        return list(judge_stats(wanted, self._before, after))


def _holds(message: Any, wanted: Any) -> bool:
    """Whether `wanted` is a part of the message: null is absence, a list's items are in any place."""
    if isinstance(wanted, Mapping):
        return isinstance(message, Mapping) and all(_holds(message.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(message, list) and all(any(_holds(each, one) for each in message) for one in wanted)
    return matches(wanted, None if message is None else str(message))
