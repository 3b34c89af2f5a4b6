"""Sockets made in a pod's network: asked of the process that owns it (`pod_init`), over a Unix socket."""

import asyncio
import json
import os
import socket
from pathlib import Path

from mesh.platforms.docker.pod_init import SOCKET

_MAX_ANSWER = 4096


class PodSockets:
    """Of one pod. None can be had before `open` and after `close`."""

    def __init__(self, pod: str, address: str) -> None:
        self.address = address
        self._pod = pod
        self._socket: int | None = None

    def open(self, folder: Path) -> None:
        """`folder` is the one in which the process listens. Raises OSError."""
        self._socket = os.open(folder, os.O_PATH | os.O_CLOEXEC)

    def close(self) -> None:
        if self._socket is not None:
            os.close(self._socket)
            self._socket = None

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connection from within the pod. Raises OSError."""
        return await self._ask({"connect": [host, port]})

    async def bound(self, kind: str, port: int) -> socket.socket:
        """A socket of kind `udp`, or one of kind `tcp` that listens, at the pod's address. Raises OSError."""
        return await self._ask({kind: [self.address, port]})

    async def _ask(self, request: dict[str, list[object]]) -> socket.socket:
        if self._socket is None:
            raise ConnectionRefusedError(f"pod {self._pod} has no network yet")
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
            channel.setblocking(False)
            # A path below /proc is short, whatever the folder's is: a socket's name has 107 bytes.
            await loop.sock_connect(channel, f"/proc/self/fd/{self._socket}/{Path(SOCKET).name}")
            await loop.sock_sendall(channel, json.dumps(request).encode())
            await _readable(channel)
            answer, fds, _, _ = socket.recv_fds(channel, _MAX_ANSWER, 1)
        if not fds:
            failure = json.loads(answer) if answer else {"errno": 0, "text": "the pod's network is gone"}
            raise OSError(failure["errno"], failure["text"])
        made = socket.socket(fileno=fds[0])
        made.setblocking(False)
        return made


async def _readable(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(channel.fileno(), tell)
    try:
        await ready
    finally:
        loop.remove_reader(channel.fileno())
