"""An xDS client over real gRPC with a real certificate: what a proxy does, step by step."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

import grpc
from cryptography.x509 import UniformResourceIdentifier
from envoy.service.discovery.v3.ads_pb2_grpc import AggregatedDiscoveryServiceStub
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from mesh.xds.types import BY_URL, XdsType
from xdskit.mesh import unpacked
from xdskit.pki import Authority

TIMEOUT_S = 10.0
_NOBODY = (("grpc.ssl_target_name_override", "control"),)


class Client:
    """One ADS stream. Every wait is bounded; whatever was not expected fails the test."""

    def __init__(
        self,
        authority: Authority,
        port: int,
        pod: str,
        account: str,
        *,
        engine: str = "python",
        grpc_client: bool = False,
    ) -> None:
        key, chain = authority.issue(UniformResourceIdentifier(f"spiffe://cluster.local/ns/default/sa/{account}"))
        credentials = grpc.ssl_channel_credentials(authority.root, key, chain)
        self._channel = grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=_NOBODY)
        self._node = {
            "id": f"sidecar~127.64.1.1~{pod}.default~default.svc.cluster.local",
            "metadata": {"GENERATOR": "grpc"} if grpc_client else {"ENGINE": engine},
        }
        self._call: Any = None

    async def __aenter__(self) -> Client:
        self._call = AggregatedDiscoveryServiceStub(self._channel).StreamAggregatedResources()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._call.cancel()
        await self._channel.close()

    async def ask(self, type_: XdsType, *names: str) -> None:
        """Subscribe."""
        await self._send(DiscoveryRequest(node=self._node, type_url=type_.url, resource_names=names))

    async def ack(self, response: DiscoveryResponse, *names: str) -> None:
        await self._send(_answer(response, names))

    async def nack(self, response: DiscoveryResponse, message: str, *names: str) -> None:
        answer = _answer(response, names)
        answer.error_detail.message = message
        await self._send(answer)

    async def response(self, type_: XdsType) -> DiscoveryResponse:
        """The next response, which must be of this type."""
        async with asyncio.timeout(TIMEOUT_S):
            response = await self._call.read()
        assert response is not grpc.aio.EOF, await self._call.details()
        assert BY_URL[response.type_url] is type_
        return response

    async def refusal(self) -> tuple[grpc.StatusCode, str]:
        """How the server ended the stream."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self._call.code(), await self._call.details()

    async def subscribe_all(self) -> dict[XdsType, DiscoveryResponse]:
        """What a proxy does at start; returns the last response of each type, all taken."""
        last: dict[XdsType, DiscoveryResponse] = {}
        for type_ in (XdsType.CDS, XdsType.EDS, XdsType.LDS, XdsType.RDS):
            names = self.wanted(last, type_)
            await self.ask(type_, *names)
            last[type_] = await self.response(type_)
            await self.ack(last[type_], *names)
        return last

    @staticmethod
    def wanted(last: dict[XdsType, DiscoveryResponse], type_: XdsType) -> tuple[str, ...]:
        """Names that a proxy subscribes to, given what it was sent."""
        if type_ is XdsType.RDS:
            return ("http_proxy",)
        if type_ is not XdsType.EDS:
            return ()
        return tuple(name for name in resource_names(last[XdsType.CDS]) if name.startswith("outbound|"))

    async def _send(self, request: DiscoveryRequest) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await self._call.write(request)


def resource_names(response: DiscoveryResponse) -> list[str]:
    """Names of the resources of a response; of endpoints, their clusters'."""
    messages = [unpacked(resource) for resource in response.resources]
    return [getattr(message, "cluster_name", "") or message.name for message in messages]


def _answer(response: DiscoveryResponse, names: tuple[str, ...]) -> DiscoveryRequest:
    return DiscoveryRequest(
        type_url=response.type_url,
        response_nonce=response.nonce,
        version_info=response.version_info,
        resource_names=names,
    )
