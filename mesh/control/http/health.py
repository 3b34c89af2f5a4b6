"""Whether the control plane lives and is ready, and what it has counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiohttp import web

from mesh.control.metrics import CONTENT_TYPE, Family, render


class HealthApi:
    """`/livez` and `/readyz` are open to all: this API listens only once everything behind it works."""

    def __init__(self, families: Callable[[], Iterable[Family]]) -> None:
        self._families = families

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/livez", self.say_ok),
            web.get("/readyz", self.say_ok),
            web.get("/metrics", self.show_metrics),
        ]

    async def say_ok(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def show_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=render(self._families()).encode(), headers={"Content-Type": CONTENT_TYPE})
