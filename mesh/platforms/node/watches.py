"""What the control plane holds, followed in threads and handed to the event loop."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mesh.client import ApiError, Manifest, MeshClient, MeshNotRunning, Watch

_RETRY_S = 0.5
_log = logging.getLogger("mesh.node")


@dataclass(frozen=True, slots=True)
class Listed:
    """All objects of a kind as they were at `version`, also after a watch fell too far behind to go on."""

    kind: str
    objects: Sequence[Manifest]
    version: str

    def lacks(self, known: Manifest) -> bool:
        """Whether an object is gone. One that was written while the list was on its way need not be in it yet."""
        meta = known["metadata"]
        if int(meta["resourceVersion"]) > int(self.version):
            return False
        return meta["name"] not in {each["metadata"]["name"] for each in self.objects}


@dataclass(frozen=True, slots=True)
class Changed:
    """One object; `deleted` says that it is gone."""

    kind: str
    object: Manifest
    deleted: bool


Deliver = Callable[[Listed | Changed], None]


class Follower:
    """Follows one kind in a thread of its own, until closed."""

    def __init__(self, client: MeshClient, kind: str, deliver: Deliver) -> None:
        self._client = client
        self._kind = kind
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._closed = threading.Event()
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch-{kind}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._watch is not None:
            self._watch.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._follow()
            except ApiError as error:
                if error.status != 410:
                    _log.error("watching %s: %s", self._kind, error)
            except MeshNotRunning as error:
                _log.info("watching %s: %s", self._kind, error)
            self._closed.wait(_RETRY_S)

    def _follow(self) -> None:
        listed = self._client.list(self._kind)
        self._hand_over(Listed(self._kind, listed.items, listed.resource_version))
        with self._client.watch(self._kind, since=listed.resource_version) as self._watch:
            for event in self._watch:
                self._hand_over(Changed(self._kind, event.object, event.type == "DELETED"))

    def _hand_over(self, change: Listed | Changed) -> None:
        if not self._closed.is_set():
            self._loop.call_soon_threadsafe(self._arrived, change)

    def _arrived(self, change: Listed | Changed) -> None:
        """In the loop, where it may have been closed since the thread handed over."""
        if not self._closed.is_set():
            self._deliver(change)
