"""A log service that no listener logs to any more is told so: its stream ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc.aio
from envoy.service.accesslog.v3 import als_pb2_grpc
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from live_sidecar import V3, chain, cluster, listener, play, resources, sidecar

HTTP2 = f"""typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{
  "@type": {V3}.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{http2_protocol_options: {{}}}}}}}}"""
LOG = f"""access_log: [{{name: als, typed_config: {{"@type": {V3}.access_loggers.grpc.v3.HttpGrpcAccessLogConfig,
  common_config: {{log_name: l, transport_api_version: V3, buffer_size_bytes: 0,
    grpc_service: {{envoy_grpc: {{cluster_name: logs}}}}}}}}}}]"""


class Service(als_pb2_grpc.AccessLogServiceServicer):  # type: ignore[misc]
    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.entries = 0

    async def StreamAccessLogs(  # noqa: N802 - gRPC's name
        self, messages: AsyncIterator[StreamAccessLogsMessage], context: grpc.aio.ServicerContext
    ) -> StreamAccessLogsResponse:
        async for message in messages:
            self.entries += len(message.http_logs.log_entry)
            self.begun.set()
        self.ended.set()
        return StreamAccessLogsResponse()


async def ask(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /own HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()


def test_the_stream_ends_with_the_last_listener_that_logs_to_it() -> None:
    async def scene() -> None:
        service, server = Service(), grpc.aio.server()
        als_pb2_grpc.add_AccessLogServiceServicer_to_server(service, server)
        logs = cluster("logs", server.add_insecure_port("127.0.0.1:0")).replace(
            "type: STATIC", f"type: STATIC, {HTTP2}"
        )
        await server.start()
        try:
            plain, other = chain("x"), chain("y")
            logging = plain.replace("stat_prefix: t,", f"stat_prefix: t, {LOG},")
            async with sidecar(resources(listener(logging), logs)) as running:
                port = running.port
                async with asyncio.timeout(10):
                    await ask(port)
                    await service.begun.wait()
                    # Another chain, the same log: one stream goes on.
                    again = other.replace("stat_prefix: t,", f"stat_prefix: t, {LOG},")
                    await running.server.apply(resources(listener(again, port), logs))
                    await ask(port)
                    assert not service.ended.is_set()
                    await running.server.apply(resources(listener(other, port), logs))
                    await service.ended.wait()
            assert service.entries == 2
        finally:
            await server.stop(None)

    play(scene)
