"""A scripted control plane: a real ADS server over gRPC that says what a test tells it, and keeps what it heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from mesh.proxy.operations.references import Kind
from mesh.proxy.operations.xds_client.kinds import KINDS, TYPE_URLS

WAIT_S = 10.0


class Stream:
    """One ADS stream, as the server sees it."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[DiscoveryRequest] = asyncio.Queue()
        self.responses: asyncio.Queue[DiscoveryResponse | None] = asyncio.Queue()
        self._nonces = 0

    async def heard(self, kind: Kind | None = None) -> DiscoveryRequest:
        """The next request; it must be of `kind`."""
        async with asyncio.timeout(WAIT_S):
            request = await self.requests.get()
        assert kind is None or KINDS[request.type_url] == kind, request
        return request

    def say(self, kind: Kind, version: str, *messages: Any) -> str:
        """Send a response; its nonce."""
        self._nonces += 1
        response = DiscoveryResponse(version_info=version, nonce=f"n{self._nonces}", type_url=TYPE_URLS[kind])
        for message in messages:
            response.resources.add().Pack(message)
        self.responses.put_nowait(response)
        return response.nonce

    def end(self) -> None:
        self.responses.put_nowait(None)


class ControlPlane(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]
    """Serves ADS on loopback. `streams` gets each stream as it opens."""

    def __init__(self) -> None:
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        """Listen; on the port it had before, if it is started again."""
        self._server = grpc.aio.server()
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(self, self._server)
        address = f"127.0.0.1:{self.port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def connected(self) -> Stream:
        async with asyncio.timeout(WAIT_S):
            return await self.streams.get()

    async def StreamAggregatedResources(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[DiscoveryRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[DiscoveryResponse]:
        stream = Stream()
        self.streams.put_nowait(stream)
        reader = asyncio.get_running_loop().create_task(self._read(requests, stream))
        try:
            while (response := await stream.responses.get()) is not None:
                yield response
        finally:
            reader.cancel()

    async def _read(self, requests: AsyncIterator[DiscoveryRequest], stream: Stream) -> None:
        async for request in requests:
            stream.requests.put_nowait(request)
