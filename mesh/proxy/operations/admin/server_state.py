"""`/runtime`, `/runtime_modify`, `/contention` and `/init_dump`: the bootstrap's runtime, which nobody can change while
it runs, no locks to wait for, and what is still waited for.
"""

from __future__ import annotations

from typing import Any

from mesh.proxy import decode
from mesh.proxy.operations.admin.page import BadQuery, Page, Reply, Request, Sidecar, json_reply

_USAGE = (
    "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n"
    "       or send the parameters as form values\n"
    "use an empty value to remove a previously added override"
)


async def runtime(sidecar: Sidecar, _: Request) -> Reply:
    layers = sidecar.bootstrap.layered_runtime.layers
    values = [decode.to_dict(layer.static_layer) for layer in layers]
    entries = {}
    for key in sorted({key for layer in values for key in layer}):
        found = [_text(layer[key]) if key in layer else "" for layer in values]
        entries[key] = {"final_value": next(text for text in reversed(found) if text), "layer_values": found}
    return json_reply({"entries": entries, "layers": [layer.name for layer in layers]})


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


async def modify(_: Sidecar, request: Request) -> Reply:
    if not request.query:
        raise BadQuery(_USAGE)
    return Reply("No admin layer specified", 503)


async def contention(_: Sidecar, __: Request) -> Reply:
    return Reply("Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing.")


async def init_dump(sidecar: Sidecar, _: Request) -> Reply:
    configuration = sidecar.configuration
    waiting: dict[str, list[str]] = {}
    for kind, name in configuration.missing():
        waiting.setdefault(str(kind), []).append(f"target {name}")
    dumps: list[dict[str, Any]] = [
        {"name": f"init manager {kind}", "target_names": sorted(names)} for kind, names in sorted(waiting.items())
    ]
    return json_reply({"unready_targets_dumps": dumps} if dumps else {})


PAGES = (
    Page("/runtime", "print runtime values", runtime),
    Page("/runtime_modify", "Adds or modifies runtime values as passed in query parameters", modify, changes=True),
    Page("/contention", "dump current Envoy mutex contention stats (if enabled)", contention),
    Page("/init_dump", "dump what is still waited for", init_dump),
)
