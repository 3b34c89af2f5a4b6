"""A watch that outlives its connections: it goes on from the last version it saw, until it is closed."""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

from mesh.client import answers
from mesh.client.errors import ApiError, MeshNotRunning
from mesh.client.transport import Transport
from mesh.client.types import Manifest

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_GONE = 410


@dataclass(frozen=True, slots=True)
class Event:
    """What became of an object: `type` is ADDED, MODIFIED or DELETED (then `object` is its last form)."""

    type: str
    object: Manifest


class Watch:
    """Iterates over the events of one collection. One thread iterates; any thread may close it.

    A connection that ends, or a control plane that is away, is waited out with a jittered back-off. Where the server no
    longer knows what came after the last version seen (it was restarted, or this reader was very slow), a watch that
    began with the present objects lists them again and tells what has become of each; one that began at a version
    raises ApiError 410 (Expired). Other refusals are raised as they come.
    """

    def __init__(self, transport: Transport, path: str, query: Mapping[str, str], since: str | None) -> None:
        self._transport = transport
        self._path = path
        self._query = query
        self._since = since
        self._known: dict[str, Manifest] | None = {} if since is None else None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._connection: http.client.HTTPSConnection | None = None
        self._events = self._run()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration, also where another thread waits in it."""
        self._closed.set()
        with self._lock:
            if self._connection is not None and self._connection.sock is not None:
                _wake(self._connection.sock)

    def _run(self) -> Iterator[Event]:
        pause_s = _FIRST_PAUSE_S
        while not self._closed.is_set():
            try:
                if self._since is None:
                    yield from self._listed()
                for event in self._connected():
                    pause_s = _FIRST_PAUSE_S
                    yield event
            except MeshNotRunning:
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            except ApiError as error:
                if error.status != _GONE or self._known is None:
                    raise
                self._since = None
                continue
            self._closed.wait(pause_s * random.uniform(0.5, 1.0))

    def _listed(self) -> Iterator[Event]:
        """What the present objects tell beyond those known."""
        assert self._known is not None
        found = answers.object_list(self._transport.call("GET", self._path, self._query))
        present = {manifest["metadata"]["uid"]: manifest for manifest in found.items}
        known, self._known = self._known, present
        self._since = found.resource_version
        for uid, manifest in known.items():
            if uid not in present:
                yield Event("DELETED", manifest)
        for uid, manifest in present.items():
            if uid not in known:
                yield Event("ADDED", manifest)
            elif known[uid]["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
                yield Event("MODIFIED", manifest)

    def _connected(self) -> Iterator[Event]:
        """The events of one connection, until it ends."""
        assert self._since is not None
        query = {**self._query, "watch": "1", "resourceVersion": self._since}
        connection, response = self._transport.stream(self._path, query)
        with self._lock:
            self._connection = connection
        try:
            while not self._closed.is_set():
                line = self._line(response)
                if not line:
                    return
                yield self._event(line)
        finally:
            with self._lock:
                self._connection = None
            connection.close()

    def _line(self, response: http.client.HTTPResponse) -> bytes:
        try:
            line = response.readline()
        except (OSError, http.client.HTTPException):
            return b""  # Cut off, by the control plane's death or by our own close.
        return line if line.endswith(b"\n") else b""

    def _event(self, line: bytes) -> Event:
        event = json.loads(line)
        if event["type"] == "ERROR":
            status = event["object"]
            raise ApiError(status["code"], status["reason"], status["message"])
        seen = Event(event["type"], event["object"])
        self._since = seen.object["metadata"]["resourceVersion"]
        if self._known is not None:
            self._note(seen)
        return seen

    def _note(self, event: Event) -> None:
        assert self._known is not None
        uid = event.object["metadata"]["uid"]
        if event.type == "DELETED":
            self._known.pop(uid, None)
        else:
            self._known[uid] = event.object


def _wake(sock: socket.socket) -> None:
    try:
        # The plain socket's shutdown: SSLSocket's own would pull the TLS state from under the thread that reads.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return  # Its peer has gone already, so the reader is awake.
