"""`python -m mesh.platforms.docker.queue_process`: reads a pod's queues of packets, in the pod's infra container.

The kernel gives queues to, and takes verdicts from, processes with CAP_NET_ADMIN in the pod's network (netlink(7)). The
node need not be one, and the container's first process no longer is. So the node starts this one, by `exec` as it lays
rules, with the first fault that needs a queue; it ends with its standard input, and so with the node.

A line of JSON asks, another one answers: `{"open": [latency_s, jitter_s, bits_per_s]}` is answered `{"queue": number}`,
and `{"close": number}` is answered `{}`; what cannot be done, `{"error": text}`.

With the argument `lacking` it says in one line of JSON which network faults cannot be laid here, and why.
"""

import asyncio
import json
import sys
from typing import Any

from mesh.platforms.base import PlatformError
from mesh.platforms.netns.faults.probe import lacking_here
from mesh.platforms.netns.faults.reader import QueueReader
from mesh.platforms.netns.faults.shaper import Shaper

LACKING = "lacking"


def main() -> None:
    if sys.argv[1:] == [LACKING]:
        _say(dict(lacking_here()))
    else:
        asyncio.run(_serve())


async def _serve() -> None:
    requests = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    reader: QueueReader | None = None
    while line := await requests.readline():
        try:
            reader = reader or QueueReader()
            _say(_carry_out(reader, json.loads(line)))
        except (OSError, PlatformError) as error:
            _say({"error": str(error)})
    if reader is not None:
        reader.close_all()


def _carry_out(reader: QueueReader, request: dict[str, Any]) -> dict[str, object]:
    if "open" in request:
        return {"queue": reader.open(Shaper(*request["open"]))}
    reader.close(request["close"])
    return {}


def _say(answer: dict[Any, object]) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
