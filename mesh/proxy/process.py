"""The composition root: puts data path, control-plane client, secrets and admin pages together and sees them end."""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap

from mesh.proxy import logs
from mesh.proxy.bootstrap import static_resources
from mesh.proxy.options import Options
from mesh.proxy.resources import Refused
from mesh.proxy.server import Server
from mesh.proxy.stats import Stats

_LOG = logs.logger("main")


class StartError(Exception):
    """The sidecar cannot start from this bootstrap. `str()` is one line."""


def run(config: Bootstrap, options: Options) -> int:
    """Serve until a signal ends it. Returns the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, options))


async def _serve(config: Bootstrap, options: Options) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(loop, config.node, Stats(), sys.stdout)
    try:
        server.apply(static_resources(config))
    except Refused as error:
        raise StartError(str(error)) from error
    _LOG.info("starting main dispatch loop")
    await stop.wait()
    server.begin_drain()
    await server.close(options.drain_time_s)
    return 0
