"""One worker process: the data path, driven over a socket pair. `python -m mesh.proxy.operations.worker FD LEVEL NODE
MANAGER`

It ends with its parent, however that ends: by the end of the socket pair, and on Linux by the kernel's signal.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from envoy.config.bootstrap.v3.bootstrap_pb2 import ClusterManager
from envoy.config.core.v3.base_pb2 import Node

from mesh.proxy import logs
from mesh.proxy.operations import ipc
from mesh.proxy.operations.ipc import Verb
from mesh.proxy.operations.local_plane import LocalPlane
from mesh.proxy.resources import Refused

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Serve the parent's wishes until it closes the socket or says so."""
    descriptor, level = int(sys.argv[1]), sys.argv[2]
    node, manager = (bytes.fromhex(argument) for argument in sys.argv[3:5])
    _die_with_parent()
    logs.configure(level)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # a terminal sends them to the whole group; the parent decides
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(socket.socket(fileno=descriptor), Node.FromString(node), ClusterManager.FromString(manager)))
    return 0


async def _serve(pair: socket.socket, node: Node, manager: ClusterManager) -> None:
    reader, writer = await asyncio.open_connection(sock=pair)
    plane = LocalPlane.of(node, sys.stderr, reuse_port=True, manager=manager)
    answers = _answers(plane)
    try:
        while True:
            verb, argument = await ipc.receive(reader)
            await ipc.send(writer, await _answer(answers[verb], argument))
            if verb is Verb.CLOSE:
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        await plane.close(0)  # the parent is gone
    finally:
        writer.close()


async def _answer(answer: Callable[[Any], Awaitable[Any]], argument: Any) -> tuple[str, Any]:
    try:
        return "done", await answer(argument)
    except Refused as error:
        return "refused", (error.resource_type, error.resource_name, error.field_path, error.reason)


def _answers(plane: LocalPlane) -> dict[Verb, Callable[[Any], Awaitable[Any]]]:
    decoder = ipc.Decoder()

    return {
        Verb.CHECK: lambda encoded: plane.check(decoder.decode(encoded)),
        Verb.APPLY: lambda encoded: plane.apply(decoder.decode(encoded)),
        Verb.WARMING: lambda _: plane.wait_warming(None),
        Verb.SAMPLES: lambda _: plane.samples(),
        Verb.CLUSTERS: lambda _: plane.clusters(),
        Verb.LISTENERS: lambda _: plane.listeners(),
        Verb.RESET: lambda _: plane.reset_counters(),
        Verb.REOPEN: lambda _: plane.reopen_logs(),
        Verb.FAIL: plane.fail,
        Verb.DRAIN: lambda which: plane.drain(inbound_only=which[0], keeps_accepting=which[1]),
        Verb.CLOSE: plane.close,
    }


def _die_with_parent() -> None:
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died in between
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
