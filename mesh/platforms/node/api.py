"""The node's way to the control plane: the blocking client in threads, patient while the control plane is down."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from mesh.client import ApiError, Manifest, MeshClient, MeshNotRunning

_P = ParamSpec("_P")
_T = TypeVar("_T")

_RETRY_S = 0.2
_log = logging.getLogger("mesh.node")


class NodeApi:
    """`open` is set once the control plane has taken the mesh's first manifests; writers wait for it."""

    def __init__(self, client: MeshClient, root_cert: Path) -> None:
        self.client = client
        self._root_cert = root_cert
        self.open = asyncio.Event()
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="api")

    async def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Runs a method of the client in a thread, again until the control plane answers. Raises ApiError."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))
            except MeshNotRunning as error:
                _log.debug("the control plane does not answer: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def update_pod(self, stored: Manifest, change: Callable[[Manifest], Manifest]) -> Manifest | None:
        """Replaces a Pod by `change` of its newest form. None when the object is gone.

        `stored` is the newest form that the caller knows; somebody else may have written a newer one meanwhile.
        """
        while True:
            try:
                return await self.call(self.client.replace, change(stored))
            except ApiError as error:
                if error.status == 404:
                    return None
                if error.status != 409:
                    raise
            newest = await self.get_pod(stored)
            if newest is None:
                return None
            stored = newest

    async def get_pod(self, stored: Manifest) -> Manifest | None:
        meta = stored["metadata"]
        try:
            newest = await self.call(self.client.get, "Pod", meta["name"], meta["namespace"])
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return newest if newest["metadata"].get("uid") == meta.get("uid") else None

    async def delete_pod(self, stored: Manifest) -> None:
        """No error when it is gone already."""
        try:
            await self.call(self.client.delete, "Pod", stored["metadata"]["name"], stored["metadata"]["namespace"])
        except ApiError as error:
            if error.status != 404:
                raise

    def root_cert(self) -> bytes:
        return self._root_cert.read_bytes()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.client.close()
