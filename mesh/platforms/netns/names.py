"""The mesh's names, followed in a thread and handed to the resolver."""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping

from mesh.client import ApiError, MeshClient, MeshNotRunning
from mesh.platforms.netns.dns import Table

_POLL_S = 60
_RETRY_S = 0.2
_log = logging.getLogger("mesh.node")


class NamesFollower:
    """Calls `deliver` in the loop with every new table, until closed. A table stays while nobody answers. `own` are
    addresses by names that are the platform's, unless the mesh has a service of that name."""

    def __init__(self, client: MeshClient, deliver: Callable[[Table], None], own: Mapping[str, str]) -> None:
        self._client = client
        self._deliver = deliver
        self._own = {name: [address] for name, address in own.items()}
        self._loop = asyncio.get_running_loop()
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="watch-names", daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _run(self) -> None:
        known = ""
        while not self._closed.is_set():
            try:
                changed = self._client.names(known, timeout_s=_POLL_S if known else 0)
            except (ApiError, MeshNotRunning) as error:
                _log.info("following the names: %s", error)
                self._closed.wait(_RETRY_S)
                continue
            if changed is not None and not self._closed.is_set():
                table, known = changed
                self._loop.call_soon_threadsafe(self._deliver, {**self._own, **table})
