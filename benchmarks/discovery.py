"""An ADS server that changes each of its clusters once a second: `python -m benchmarks.discovery BLOCK`.

It speaks the state of the world to any number of proxies, and prints one line when it listens.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse
from google.protobuf.json_format import ParseDict

from benchmarks.scenarios import ADS_PORT, CLUSTERS, cluster
from benchmarks.upstream import Port

EVERY_S = 1.0
TYPE = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def clusters(block: str, version: int) -> DiscoveryResponse:
    """The cluster that carries the load among others; all of them differ from those of the version before."""
    response = DiscoveryResponse(version_info=str(version), nonce=str(version), type_url=TYPE)
    for name in ("upstream", *(f"service-{number}" for number in range(1, CLUSTERS))):
        fields = cluster(name, f"{block}.9", Port.SMALL) | {"connect_timeout": f"{1 + version % 2}s"}
        response.resources.add().Pack(ParseDict(fields, Cluster()))
    return response


class Discovery(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    """Sends the next version when the last one was taken, and a second has passed."""

    def __init__(self, block: str) -> None:
        self._versions = [clusters(block, version) for version in range(2)]

    async def StreamAggregatedResources(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[DiscoveryResponse]:
        version = 0
        async for request in requests:
            if request.type_url != TYPE:
                continue
            if request.HasField("error_detail"):
                raise RuntimeError(f"refused: {request.error_detail.message}")
            if version:
                await asyncio.sleep(EVERY_S)
            version += 1
            response = self._versions[version % 2]
            response.version_info = response.nonce = str(version)
            yield response


async def serve(block: str) -> None:
    """Serve until cancelled."""
    server = grpc.aio.server()
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(Discovery(block), server)
    server.add_insecure_port(f"{block}.8:{ADS_PORT}")
    await server.start()
    print("listening", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
