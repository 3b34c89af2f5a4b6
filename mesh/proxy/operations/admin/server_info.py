"""`/server_info`, `/memory`, `/hot_restart_version`."""

from __future__ import annotations

from mesh.proxy import decode
from mesh.proxy.operations import server_stats
from mesh.proxy.operations.admin.page import Page, Reply, Request, Sidecar, json_reply
from mesh.proxy.version import version

_HOT_RESTART = "disabled"


async def info(sidecar: Sidecar, _: Request) -> Reply:
    options, uptime = sidecar.options, f"{sidecar.status.uptime_s}s"
    return json_reply(
        {
            "version": version(),
            "state": sidecar.status.shown.name,
            "uptime_current_epoch": uptime,
            "uptime_all_epochs": uptime,
            "hot_restart_version": _HOT_RESTART,
            "command_line_options": {
                "concurrency": options.concurrency,
                "config_path": str(options.config_path or ""),
                "config_yaml": options.config_yaml or "",
                "log_level": options.log_level,
                "service_cluster": options.service_cluster,
                "service_node": options.service_node,
                "drain_time": f"{options.drain_time_s:g}s",
                "mode": "Serve",
            },
            "node": decode.to_dict(sidecar.bootstrap.node),
        }
    )


async def memory(_: Sidecar, __: Request) -> Reply:
    found = server_stats.memory()
    zero = dict.fromkeys(("pageheap_unmapped", "pageheap_free", "total_thread_cache"), "0")
    return json_reply(
        {
            "allocated": str(found.data),
            "heap_size": str(found.data),
            **zero,
            "total_physical_bytes": str(found.resident),
        }
    )


async def hot_restart_version(_: Sidecar, __: Request) -> Reply:
    return Reply(f"{_HOT_RESTART}\n")


PAGES = (
    Page("/server_info", "print server version/status information", info),
    Page("/memory", "print current allocation/heap usage", memory),
    Page("/hot_restart_version", "print the hot restart compatibility version", hot_restart_version),
)
