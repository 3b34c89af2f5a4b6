"""`/healthcheck/fail`, `/healthcheck/ok`, `/reopen_logs` and `/quitquitquit`."""

from __future__ import annotations

from mesh.proxy.operations.admin.page import Page, Reply, Request, Sidecar


async def fail(sidecar: Sidecar, _: Request) -> Reply:
    sidecar.status.is_failing = True
    await sidecar.plane.fail(True)
    return Reply("OK\n")


async def recover(sidecar: Sidecar, _: Request) -> Reply:
    sidecar.status.is_failing = False
    await sidecar.plane.fail(False)
    return Reply("OK\n")


async def reopen(sidecar: Sidecar, _: Request) -> Reply:
    await sidecar.plane.reopen_logs()
    return Reply("OK\n")


async def end(sidecar: Sidecar, _: Request) -> Reply:
    sidecar.stop.set()
    return Reply("OK\n")


PAGES = (
    Page("/healthcheck/fail", "cause the server to fail health checks", fail, changes=True),
    Page("/healthcheck/ok", "cause the server to pass health checks", recover, changes=True),
    Page("/reopen_logs", "reopen access logs", reopen, changes=True),
    Page("/quitquitquit", "exit the server", end, changes=True),
)
