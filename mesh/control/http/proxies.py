"""How far the proxies are: `proxy-status`, and waiting until all of them have taken a change."""

from __future__ import annotations

from aiohttp import web

from mesh.config.store import Store
from mesh.control.http.parameters import parse_timeout_s, parse_version
from mesh.control.http.status import Cause, RequestError, json_response, success
from mesh.xds.ads.server import DiscoveryServer
from mesh.xds.ads.status import ProxyStatus, SyncState

_DEFAULT_WAIT, _LONGEST_WAIT_S = "10", 300.0


class ProxiesApi:
    """Answers from what ADS knows of its streams."""

    def __init__(self, ads: DiscoveryServer, store: Store) -> None:
        self._ads = ads
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/meshdrill/v1/proxies", self.list_proxies),
            web.get("/meshdrill/v1/sync", self.wait_synced),
        ]

    async def list_proxies(self, request: web.Request) -> web.Response:
        proxies = [_rendered(proxy) for proxy in self._ads.proxies()]
        return json_response({"kind": "ProxyStatusList", "apiVersion": "meshdrill.dev/v1alpha1", "proxies": proxies})

    async def wait_synced(self, request: web.Request) -> web.Response:
        timeout_s = parse_timeout_s(request.query.get("timeoutSeconds", _DEFAULT_WAIT), _LONGEST_WAIT_S)
        asked = request.query.get("resourceVersion")
        version = self._store.version if asked is None else parse_version(asked)
        result = await self._ads.wait_synced(version, timeout_s)
        if result.state is SyncState.SYNCED:
            return json_response(success(str(version)))
        if result.state is SyncState.REJECTED:
            causes = [Cause(nack.message, f"{nack.proxy} {nack.type}") for nack in result.rejected]
            raise RequestError(409, "Rejected", f"resourceVersion {version} was rejected by a proxy", causes)
        late = [Cause("has not acknowledged yet", proxy) for proxy in result.late]
        raise RequestError(504, "Timeout", f"not every proxy took resourceVersion {version} in {timeout_s:g} s", late)


def _rendered(proxy: ProxyStatus) -> dict[str, object]:
    return {
        "id": proxy.id,
        "node_id": proxy.node_id,
        "address": proxy.address,
        "connected_since": proxy.connected_since.isoformat(),
        "types": [
            {
                "type": status.type,
                "state": status.state,
                "sent": status.sent,
                "acked": status.acked,
                "nacked": status.nacked,
                "error": status.error,
                "error_at": status.error_at.isoformat() if status.error_at else None,
            }
            for status in proxy.types
        ],
    }
