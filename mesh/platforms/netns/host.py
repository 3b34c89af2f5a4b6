"""Ports of the host: opened by the parent for the session, or connected to where that is allowed.

A socket belongs to the network namespace in which it was made, so the session asks for it over a socket pair and gets
the descriptor (SCM_RIGHTS, unix(7)). One message is one JSON object. Which ports may be connected to is the parent's to
say: it was told before there was a lab, and nobody in the lab can change it.
"""

import asyncio
import contextlib
import errno
import functools
import json
import os
import socket
from collections.abc import Callable, Collection
from typing import Any

from mesh.platforms.base import PlatformError, port_taken

_LOOPBACK = "127.0.0.1"

_MAX_MESSAGE = 4096
_BACKLOG = 1024
_CONNECT_S = 10.0


class HostPorts:
    """The session's end. `parent` is the parent's pid as the host sees it; `reachable` are the ports that it connects
    to."""

    def __init__(self, end: socket.socket, parent: int, reachable: Collection[int]) -> None:
        self._end = end
        self._is_stopped = False
        self._stop: Callable[[], None] | None = None
        self.parent = parent
        self.reachable = reachable

    def listen(self, address: str, port: int) -> socket.socket:
        """A listening socket on the host; port 0 is any free one. Waits for the parent, which answers at once.

        Raises PlatformError when it cannot be had.
        """
        try:
            return self._ask({"listen": [address, port]})
        except OSError as error:
            raise PlatformError(port_taken(address, port, str(error.strerror))) from error

    async def connect(self, port: int) -> socket.socket:
        """A connection to that port of the host's loopback. Raises OSError, also for a port that is not `reachable`."""
        found = self._ask({"connect": port})
        try:
            async with asyncio.timeout(_CONNECT_S):
                # The parent began it and did not wait: connect(2) again goes on with that.
                await asyncio.get_running_loop().sock_connect(found, (_LOOPBACK, port))
        except BaseException:
            found.close()
            raise
        return found

    def _ask(self, question: dict[str, Any]) -> socket.socket:
        """The parent answers at once. Raises OSError with what it says, or what keeps a descriptor from coming."""
        self._end.setblocking(True)
        try:
            message, fds = self._asked(question)
        finally:
            self._end.setblocking(False)  # for `readable`, which may come for what has been read here
        if "error" in message:
            raise OSError(message["errno"], message["error"])
        if not fds:  # the kernel drops what this process has no room for
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        found = socket.socket(fileno=fds[0])
        found.setblocking(False)
        return found

    def _asked(self, question: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
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


def serve(end: socket.socket, reachable: Collection[int]) -> str:
    """The parent's part, until the session's end is closed. Returns why the session could not begin, or nothing."""
    failure = ""
    while True:
        message, _ = _receive(end)
        if message is None:
            return failure
        if "failed" in message:
            failure = str(message["failed"])
        elif "listen" in message:
            _answer(end, functools.partial(_listening, *message["listen"]))
        elif "connect" in message:
            _answer(end, functools.partial(_connecting, message["connect"], reachable))
        elif "let_go" in message:
            _redirect_output(message["let_go"])


def _answer(end: socket.socket, make: Callable[[], socket.socket]) -> None:
    fds: list[int] = []
    message: dict[str, Any] = {}
    with contextlib.ExitStack() as held:
        try:
            fds = [held.enter_context(make()).fileno()]
        except OSError as error:
            message = {"errno": error.errno, "error": error.strerror or str(error)}
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the session is gone: the next read says so
            socket.send_fds(end, [json.dumps(message).encode()], fds)


def _listening(address: str, port: int) -> socket.socket:
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _connecting(port: int, reachable: Collection[int]) -> socket.socket:
    """Begun, as a parent that waited for one connection would keep all others waiting."""
    if port not in reachable:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    sock = socket.socket()
    sock.setblocking(False)
    code = sock.connect_ex((_LOOPBACK, port))
    if code != errno.EINPROGRESS:  # a connection is never there at once, not even one to loopback
        sock.close()
        raise OSError(code, os.strerror(code))
    return sock


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
