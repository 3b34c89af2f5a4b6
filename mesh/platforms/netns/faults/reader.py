"""Reads the kernel's queues of packets, and lets each packet go when its shaper says so."""

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mesh.platforms.base import PlatformError
from mesh.platforms.netns.faults import nfqueue
from mesh.platforms.netns.faults.shaper import Shaper

PACKETS = 4096
"""What waits in one queue at most; what comes then is dropped by the kernel."""
_QUEUES = 65535
_BUFFER = 4 << 20
_MOST_A_TURN = 256
_MAX_DATAGRAM = 65536
_log = logging.getLogger("mesh.node")


@dataclass(slots=True)
class _Queue:
    shaper: Shaper
    waiting: deque[tuple[float, int]] = field(default_factory=deque)  # when due, and which; in order
    timer: asyncio.TimerHandle | None = None


class QueueReader:
    """All queues of the network namespace in which it was made, over one socket. Runs in one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = open_socket()
        self._queues: dict[int, _Queue] = {}
        self._last = 0
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def open(self, shaper: Shaper) -> int:
        """The number of a fresh queue that is read from now on. Raises PlatformError."""
        number = self._free_number()
        self._read_waiting()
        ask_for(self._socket, number, self._take)
        self._queues[number] = _Queue(shaper)
        return number

    def close(self, number: int) -> None:
        """To be called when no rule leads to the queue any more: all that waits goes on, then nobody reads it."""
        self._read_waiting()
        queue = self._queues.pop(number)
        if queue.timer is not None:
            queue.timer.cancel()
        if queue.waiting:
            self._send(nfqueue.accept_up_to(number, queue.waiting[-1][1]))
        self._send(nfqueue.unbind(number))

    def close_all(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for queue in self._queues.values():
            if queue.timer is not None:
                queue.timer.cancel()
        self._queues.clear()

    def _free_number(self) -> int:
        for _ in range(_QUEUES):
            self._last = self._last % _QUEUES + 1
            if self._last not in self._queues:
                return self._last
        raise PlatformError("all queues of the kernel are in use")

    def _readable(self) -> None:
        """A bounded number at a time: the node has other things to do."""
        for _ in range(_MOST_A_TURN):
            if not self._read_one():
                return

    def _read_waiting(self) -> None:
        while self._read_one():
            pass

    def _read_one(self) -> bool:
        try:
            data = self._socket.recv(_MAX_DATAGRAM)
        except BlockingIOError:
            return False
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        now = self._loop.time()
        for message in nfqueue.parse(data):
            if isinstance(message, nfqueue.Answered):
                if message.errno:
                    _log.error("nfnetlink_queue: %s", os.strerror(message.errno))
                continue
            queue = self._queues.get(message.queue)
            if queue is None:  # it was closed since, and its packets let go
                continue
            due = queue.shaper.due(message.size, now)
            if due is None:
                self._send(nfqueue.drop(message.queue, message.ident))
                continue
            queue.waiting.append((due, message.ident))
            if queue.timer is None:
                queue.timer = self._loop.call_at(due, self._release, message.queue)

    def _release(self, number: int) -> None:
        queue = self._queues[number]
        queue.timer = None
        now, last = self._loop.time(), None
        while queue.waiting and queue.waiting[0][0] <= now:
            last = queue.waiting.popleft()[1]
        if last is not None:
            self._send(nfqueue.accept_up_to(number, last))
        if queue.waiting:
            queue.timer = self._loop.call_at(queue.waiting[0][0], self._release, number)

    def _send(self, message: bytes) -> None:
        # The kernel carries a request out within the call.
        self._socket.send(message)


def open_socket() -> socket.socket:
    """Of this thread's network namespace. Raises OSError where the kernel has no nfnetlink."""
    found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, nfqueue.NETLINK_NETFILTER)
    try:
        found.bind((0, 0))
        # When we are too slow, packets are lost, and that is all; else the socket would fail as well.
        found.setsockopt(nfqueue.SOL_NETLINK, nfqueue.NETLINK_NO_ENOBUFS, 1)
        with contextlib.suppress(OSError):  # more than the limit is for the host's root alone
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    except BaseException:
        found.close()
        raise
    found.setblocking(False)
    return found


def ask_for(found: socket.socket, number: int, other: Callable[[bytes], None]) -> None:
    """Makes the socket the reader of a queue; `other` gets what is read meanwhile of other queues.

    Raises PlatformError when the kernel refuses.
    """
    for sequence, message in enumerate(nfqueue.bind(number, PACKETS, 1), start=1):
        found.send(message)
        while True:
            data = found.recv(_MAX_DATAGRAM)  # the kernel answers within the call
            answers = [each for each in nfqueue.parse(data) if isinstance(each, nfqueue.Answered)]
            if not answers:
                other(data)
                continue
            if answers[0].sequence != sequence:
                continue
            if answers[0].errno:
                raise PlatformError(f"the kernel gives no queue of packets: {os.strerror(answers[0].errno)}")
            break
