"""The names of services for a pod's DNS, with a long poll for whoever follows them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass

from aiohttp import web

from mesh.api.meta import DEFAULT_NAMESPACE
from mesh.ca.identity import PodIdentity
from mesh.control.http.auth import NAMES, principal
from mesh.control.http.parameters import parse_timeout_s
from mesh.snapshot.names import name_table
from mesh.snapshot.snapshot import MeshSnapshot
from mesh.xds.ads.server import DiscoveryServer

_LONGEST_WAIT_S = 300.0


@dataclass(frozen=True, slots=True)
class _Table:
    body: bytes
    etag: str


class NamesApi:
    """Answers from the picture that proxies are configured from, so that both agree on addresses."""

    def __init__(self, ads: DiscoveryServer) -> None:
        self._ads = ads
        self._of = ads.snapshot
        self._known: dict[str, _Table] = {}
        self._waiting: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        return [web.get(NAMES, self.get_names)]

    def close(self) -> None:
        """End every wait; who waits comes back to whoever listens next."""
        for task in self._waiting:
            task.cancel()

    async def get_names(self, request: web.Request) -> web.Response:
        """The table; with `If-None-Match`, as soon as it is another one, or 304 after `timeoutSeconds`."""
        timeout_s = parse_timeout_s(request.query.get("timeoutSeconds", "0"), _LONGEST_WAIT_S)
        asking = principal(request)
        pod = asking if isinstance(asking, PodIdentity) else None
        namespace = pod.namespace if pod else request.query.get("namespace", DEFAULT_NAMESPACE)
        known = request.headers.get("If-None-Match", "")
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            table = await self._other_than(known, namespace, timeout_s)
        finally:
            self._waiting.discard(task)
        headers = {"ETag": table.etag}
        if table.etag == known:
            return web.Response(status=304, headers=headers)
        return web.Response(body=table.body, headers=headers, content_type="application/json", charset="utf-8")

    async def _other_than(self, etag: str, namespace: str, timeout_s: float) -> _Table:
        snapshot = self._ads.snapshot
        try:
            async with asyncio.timeout(timeout_s):
                while self._table(snapshot, namespace).etag == etag:
                    snapshot = await self._ads.next_snapshot(snapshot)
        except TimeoutError:
            pass  # Nothing changed in that time, which is an answer.
        return self._table(snapshot, namespace)

    def _table(self, snapshot: MeshSnapshot, namespace: str) -> _Table:
        """Made once for all of a namespace that ask for the same picture."""
        if self._of is not snapshot:
            self._of, self._known = snapshot, {}
        if namespace not in self._known:
            names = name_table(snapshot, namespace)
            body = json.dumps({"names": names}, separators=(",", ":"), sort_keys=True).encode()
            self._known[namespace] = _Table(body, f'"{hashlib.sha256(body).hexdigest()[:16]}"')
        return self._known[namespace]
