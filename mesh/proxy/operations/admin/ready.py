"""`/ready`: LIVE with 200, any other state with 503."""

from __future__ import annotations

from mesh.proxy.operations.admin.page import Page, Reply, Request, Sidecar
from mesh.proxy.operations.status import ServerState


async def answer(sidecar: Sidecar, _: Request) -> Reply:
    state = sidecar.status.shown
    return Reply(f"{state.name}\n", 200 if state is ServerState.LIVE else 503)


PAGES = (Page("/ready", "print server state, return 200 if LIVE, otherwise return 503", answer),)
