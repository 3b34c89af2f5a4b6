"""A pod as the control plane holds it: the object, its status, the token bound to it."""

import logging
from collections.abc import Callable

from mesh.client import ApiError
from mesh.platforms.node.api import NodeApi
from mesh.platforms.node.manifests import Manifest
from mesh.platforms.node.watches import Listed

TOKEN_TTL_S = 24 * 3600
_SYNC_S = 10.0
_log = logging.getLogger("mesh.node")


class PodObject:
    """Keeps to its newest known form. `exists` is false before `create` and once somebody has deleted the object."""

    def __init__(self, manifest: Manifest, service_account: str, api: NodeApi) -> None:
        self.exists = False
        self._manifest = manifest
        self._service_account = service_account
        self._api = api

    def annotate(self, annotations: dict[str, str]) -> None:
        """Before `create` only."""
        self._manifest["metadata"]["annotations"] = annotations

    def is_gone(self, listed: Listed) -> bool:
        """Whether somebody has deleted it, by a list of all Pods."""
        return self.exists and listed.lacks(self._manifest)

    async def create(self, status: Manifest) -> None:
        """Raises ApiError when the control plane refuses it."""
        self._manifest = await self._api.call(self._api.client.create, self._manifest | {"status": status})
        self.exists = True

    async def write(self, status: Callable[[], Manifest]) -> None:
        """Replaces the status, whatever else somebody changed meanwhile.

        A refusal is logged only: the next change is another chance.
        """
        try:
            stored = await self._api.update_pod(self._manifest, lambda newest: newest | {"status": status()})
        except ApiError as error:
            _log.error("the status of pod %s was refused: %s", self._manifest["metadata"]["name"], error)
            return
        self.exists = stored is not None
        self._manifest = stored or self._manifest

    async def token(self) -> bytes:
        """A token that proves to be this pod. Raises ApiError, for example when there is no such service account."""
        meta = self._manifest["metadata"]
        create = self._api.client.create_token
        arguments = (self._service_account, meta["namespace"], meta["name"], meta["uid"])
        token = await self._api.call(create, *arguments, ttl_s=TOKEN_TTL_S)
        return token.token.encode()

    async def known_to_all(self) -> None:
        """Returns when every proxy has taken what was last written, or after ten seconds: one that is stuck is no
        reason to keep a pod."""
        try:
            await self._api.call(self._api.client.wait_synced, self._manifest["metadata"]["resourceVersion"], _SYNC_S)
        except ApiError as error:
            _log.info("not every proxy knows of the end of %s: %s", self._manifest["metadata"]["name"], error)

    async def delete(self) -> None:
        await self._api.delete_pod(self._manifest)
        self.exists = False
