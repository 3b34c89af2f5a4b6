"""One engine running one case file's bootstrap, with its upstreams: what the cases of that file are played on."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.case import CaseFile, Reply, Request, decode
from harness.engines import PATIENCE, AccessLog, Engine, TextLog
from harness.frame import ADMIN_PORT, LISTENER_PORT, NOBODY, Frame
from harness.grpc_upstream import GrpcUpstream
from harness.http2_upstream import Http2Upstream
from harness.pki import ssl_context
from harness.spans import COLLECTOR
from harness.upstream import Record, Upstream


def free_block() -> str:
    """The first three bytes of a loopback /24 whose engine ports nobody holds."""
    while True:
        block = f"127.{random.randint(128, 254)}.{random.randint(0, 254)}"
        with socket.socket() as admin, socket.socket() as listener:
            try:
                admin.bind((f"{block}.1", ADMIN_PORT))
                listener.bind((f"{block}.1", LISTENER_PORT))
            except OSError:
                continue
        return block


class Scene:
    """Start with `Scene(...)`, play cases in `runner`, end with `close()`."""

    def __init__(self, engine: str, file: CaseFile, directory: Path, certificates: Path) -> None:
        self.engine_name = engine
        self.certificates = certificates
        self.frame = Frame(free_block(), directory, certificates)
        bootstrap = directory / "bootstrap.json"
        bootstrap.write_text(json.dumps(self.frame.build(file.bootstrap), indent=1))
        self.records: list[Record] = []
        self.reports: list[Record] = []
        options = file.bootstrap.get("upstreams", {})
        self.upstreams = {
            name: self._upstream(name, options.get(name, {})) for name in self.frame.upstreams if name != NOBODY
        }
        self.log = AccessLog(self.frame.access_log)
        self.text_log = TextLog(self.frame.text_log)
        self.connection_log = TextLog(self.frame.connection_log)
        self.runner = asyncio.Runner()
        self.engine = Engine(engine, bootstrap, f"{self.frame.block}.1", ADMIN_PORT, self.named)
        try:
            self.runner.run(self._start_upstreams(file.bootstrap.get("upstreams", {})))
            # In a thread, so that the upstreams can answer the health checks that an engine waits for.
            self.runner.run(asyncio.to_thread(self.engine.wait_ready))
        except BaseException:
            self.close()
            raise

    def _upstream(self, name: str, options: Mapping[str, Any]) -> Upstream | Http2Upstream | GrpcUpstream:
        records = self.reports if name == COLLECTOR else self.records
        if options.get("grpc"):
            return GrpcUpstream(name, records)
        if options.get("http2") is None:
            return Upstream(name, records)
        return Http2Upstream(name, records, options["http2"])

    async def _start_upstreams(self, options: Mapping[str, Any]) -> None:
        for name, upstream in self.upstreams.items():
            tls = options.get(name, {}).get("tls")
            context = ssl_context(self.certificates, tls, server=True) if tls else None
            await upstream.start(*self.frame.upstreams[name], context)

    def script(self, what: Any) -> None:
        """Set the replies: one, a list in order, or `{of: {upstream: one or list}}`; None means each says its name."""
        is_by_name = isinstance(what, Mapping) and "of" in what
        by_name = what["of"] if is_by_name else {name: what for name in self.upstreams if name != COLLECTOR}
        for name, upstream in self.upstreams.items():
            if name == COLLECTOR and name not in by_name:
                continue
            replies = by_name.get(name) or []
            replies = replies if isinstance(replies, list) else [replies]
            upstream.script(decode(Reply, reply, f"reply of {name}") for reply in replies)

    def script_health(self, by_name: Mapping[str, Any]) -> None:
        """Set how upstreams answer health checks; those not named are well."""
        for name, upstream in self.upstreams.items():
            upstream.health = decode(Reply, by_name.get(name, {}), f"health of {name}")

    def addressed(self, request: Request) -> Request:
        """The request with `<upstream>` in the values of its headers replaced by that upstream's address."""
        if not isinstance(request.headers, Mapping) or "<" not in str(request.headers):
            return request
        headers = dict(request.headers)
        for name, (address, port) in self.frame.upstreams.items():
            for header, value in headers.items():
                headers[header] = value.replace(f"<{name}>", f"{address}:{port}") if isinstance(value, str) else value
        return replace(request, headers=headers)

    def named(self, text: str) -> str:
        """The text with this run's addresses replaced by the names that the case file gave them."""
        for name, (address, port) in [*self.frame.upstreams.items(), *self.frame.listeners.items()]:
            text = text.replace(f"{address}:{port}", name).replace(f"{address}_{port}", name)
        return text

    async def until(self, condition: Callable[[], bool]) -> bool:
        """Whether a condition of the harness's own servers came true in time."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.005)
        return True

    def close(self) -> None:
        """Stop engine and upstreams."""
        self.engine.stop()
        self.runner.run(self._stop_upstreams())
        self.runner.close()

    async def _stop_upstreams(self) -> None:
        for upstream in self.upstreams.values():
            await upstream.stop()
