"""`/listeners` and `/drain_listeners`."""

from __future__ import annotations

from typing import Any

from mesh.proxy.downstream.connection_info import text_of
from mesh.proxy.operations.admin.page import Page, Reply, Request, Sidecar, json_reply, wants_json
from mesh.proxy.operations.plane import ListenerStatus


async def answer(sidecar: Sidecar, request: Request) -> Reply:
    as_json = wants_json(request)
    found = await sidecar.plane.listeners()
    if as_json:
        return json_reply({"listener_statuses": [_tree(status) for status in found]})
    return Reply("".join(f"{each.name}::{text_of(each.addresses[0])}\n" for each in found))


async def drain(sidecar: Sidecar, request: Request) -> Reply:
    query = request.query
    await sidecar.plane.drain(inbound_only="inboundonly" in query, keeps_accepting="skip_exit" in query)
    return Reply("OK\n")


def _tree(status: ListenerStatus) -> dict[str, Any]:
    first, *more = [{"socket_address": {"address": ip, "port_value": port}} for ip, port in status.addresses]
    tree: dict[str, Any] = {"name": status.name, "local_address": first}
    return tree | {"additional_local_addresses": more} if more else tree


PAGES = (
    Page("/listeners", "print listener info", answer, parameters={"format": "File format to use; One of (text, json)"}),
    Page(
        "/drain_listeners",
        "drain listeners",
        drain,
        changes=True,
        parameters={
            "graceful": "Let requests in flight end; this sidecar always does",
            "skip_exit": "Let connections end with their next response, and go on accepting",
            "inboundonly": "Drain the listeners with traffic_direction INBOUND alone",
        },
    ),
)
