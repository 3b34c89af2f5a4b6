"""Scripted gRPC services that proxies ask: each call is recorded as JSON and answered as the case says."""

from __future__ import annotations

import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse
from google.protobuf import json_format

from harness.case import Reply
from harness.upstream import Record
from harness.wire import Message

_METHODS = {
    "/envoy.service.auth.v3.Authorization/Check": (CheckRequest, CheckResponse),
    "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit": (RateLimitRequest, RateLimitResponse),
}
_ACCESS_LOGS = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"


class GrpcUpstream:
    """One address. `Reply.grpc` is the answer as JSON, or a gRPC status by its name; without script it is empty."""

    def __init__(self, name: str, records: list[Record]) -> None:
        self.name = name
        self.held = 0
        self._records = records
        self._replies: deque[Reply] = deque()
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str, port: int, context: ssl.SSLContext | None) -> None:
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))
        self._server.add_insecure_port(f"{address}:{port}")
        await self._server.start()

    def script(self, replies: Iterable[Reply]) -> None:
        self._replies = deque(replies)

    def release(self) -> None:
        """Nothing is ever held."""

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """gRPC's question who handles a call."""
        if details.method == _ACCESS_LOGS:
            return grpc.stream_unary_rpc_method_handler(
                self._keep_logs,
                request_deserializer=StreamAccessLogsMessage.FromString,
                response_serializer=StreamAccessLogsResponse.SerializeToString,
            )
        if details.method not in _METHODS:
            return None
        request, _ = _METHODS[details.method]

        async def answer(message: Any, context: grpc.aio.ServicerContext) -> Any:
            return await self._answer(details.method, message, context)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    async def _keep_logs(
        self, messages: AsyncIterator[StreamAccessLogsMessage], context: grpc.aio.ServicerContext
    ) -> StreamAccessLogsResponse:
        async for message in messages:
            self._record(_ACCESS_LOGS, message, context)
        return StreamAccessLogsResponse()

    async def _answer(self, method: str, message: Any, context: grpc.aio.ServicerContext) -> Any:
        self._record(method, message, context)
        reply = Reply(grpc={})
        if self._replies:
            reply = self._replies.popleft() if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply.grpc, str):
            await context.abort(grpc.StatusCode[reply.grpc], "as the case says")
        _, answer = _METHODS[method]
        return json_format.ParseDict(reply.grpc or {}, answer())

    def _record(self, method: str, message: Any, context: grpc.aio.ServicerContext) -> None:
        text = json.dumps(json_format.MessageToDict(message, preserving_proto_field_name=True), sort_keys=True)
        headers = [(key, str(value)) for key, value in context.invocation_metadata() or ()]
        self._records.append(Record(self.name, 0, Message(f"POST {method} HTTP/2", headers, text.encode())))
