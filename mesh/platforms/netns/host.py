"""Ports of the host: opened by the parent, used by the session.

A listening socket belongs to the network namespace in which it was made, so the session asks for it over a socket pair
and gets the descriptor (SCM_RIGHTS, unix(7)). One message is one JSON object.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable
from typing import Any

from mesh.platforms.base import PlatformError, port_taken

_MAX_MESSAGE = 4096
_BACKLOG = 1024


class HostPorts:
    """The session's end. `parent` is the parent's pid as the host sees it."""

    def __init__(self, end: socket.socket, parent: int) -> None:
        self._end = end
        self._is_stopped = False
        self._stop: Callable[[], None] | None = None
        self.parent = parent

    def listen(self, address: str, port: int) -> socket.socket:
        """A listening socket on the host; port 0 is any free one. Waits for the parent, which answers at once.

        Raises PlatformError when it cannot be had.
        """
        self._end.setblocking(True)
        try:
            message, fds = self._ask({"listen": [address, port]})
        finally:
            self._end.setblocking(False)  # for `readable`, which may come for what has been read here
        if "error" in message:
            raise PlatformError(port_taken(address, port, message["error"]))
        found = socket.socket(fileno=fds[0])
        found.setblocking(False)
        return found

    def _ask(self, question: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        self._end.send(json.dumps(question).encode())
        while True:
            message, fds = _receive(self._end)
            if message is None:
                raise PlatformError("the parent of the lab is gone")
            if "stop" not in message:
                return message, fds
            self._told_to_stop()

    def let_go(self, log: str) -> None:
        """The parent writes to the file `log` from now on, and no longer to where it was started."""
        self._end.send(json.dumps({"let_go": log}).encode())

    def on_stop(self, stop: Callable[[], None]) -> None:
        """Calls `stop`, in the running loop, when the parent was asked to end the mesh."""
        loop = asyncio.get_running_loop()
        self._stop = stop
        if self._is_stopped:
            stop()

        def readable() -> None:
            try:
                message, _ = _receive(self._end)
            except BlockingIOError:
                return  # whoever waited for an answer has read it meanwhile
            if message is None:
                loop.remove_reader(self._end.fileno())
            self._told_to_stop()

        loop.add_reader(self._end.fileno(), readable)

    def _told_to_stop(self) -> None:
        """It may come at any time: before anybody asks for it, and between a question and its answer."""
        self._is_stopped = True
        if self._stop is not None:
            self._stop()


def serve(end: socket.socket) -> str:
    """The parent's part, until the session's end is closed. Returns why the session could not begin, or nothing."""
    failure = ""
    while True:
        message, _ = _receive(end)
        if message is None:
            return failure
        if "failed" in message:
            failure = str(message["failed"])
        elif "listen" in message:
            _answer_listen(end, *message["listen"])
        elif "let_go" in message:
            _redirect_output(message["let_go"])


def _answer_listen(end: socket.socket, address: str, port: int) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as listening:
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address, port))
            listening.listen(_BACKLOG)
        except OSError as error:
            end.send(json.dumps({"error": error.strerror or str(error)}).encode())
            return
        socket.send_fds(end, [b'{"ok": true}'], [listening.fileno()])


def _redirect_output(log: str) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(fd, stream)
    os.close(fd)


def _receive(end: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """One message with its descriptors; None when the other end is closed."""
    try:
        data, fds, _, _ = socket.recv_fds(end, _MAX_MESSAGE, 1)
    except ConnectionResetError:
        return None, []
    if not data:
        return None, []
    message: dict[str, Any] = json.loads(data)
    return message, fds
