"""Access log entries on their way to a gRPC access log service, over one stream that stays open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from envoy.config.core.v3.base_pb2 import Node
from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from google.protobuf.message import Message

from mesh.proxy import logs
from mesh.proxy.http.rescue import Failure
from mesh.proxy.upstream.async_client import AsyncStream, own_head

if TYPE_CHECKING:
    from mesh.proxy.http.codec import RequestEncoder
    from mesh.proxy.http1.head import RequestHead
    from mesh.proxy.observe.counters import LogServiceStats
    from mesh.proxy.runtime import Worker

_LOG = logs.logger("grpc")
_PATH = b"/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
_LARGEST = 1024 * 1024  # what waits for a service that does not read, where the configuration sets no size


class LogService:
    """`CommonGrpcAccessLogConfig`: `interval` in seconds, `size` in bytes of entries that wait before they are sent.

    Entries that find `size` bytes waiting for a service that takes no more are dropped, and so are those that are sent
    when there is nobody to send them to; both are counted.
    """

    __slots__ = ("_authority", "_cluster", "_entries", "_interval", "_is_closed", "_limit", "_log_name", "_metadata",
                 "_node", "_size", "_stats", "_stream", "_timer", "_waiting", "_worker")  # fmt: skip

    def __init__(
        self, cluster: str, authority: str, metadata: tuple[tuple[bytes, bytes], ...], *, node: Node, log_name: str,
        stats: LogServiceStats, interval: float, size: int,
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._authority = (authority or cluster).encode()
        self._metadata = metadata
        self._node = node
        self._log_name = log_name
        self._stats = stats
        self._interval = interval
        self._size = size
        self._limit = size or _LARGEST
        self._entries: list[Message] = []
        self._is_closed = False
        self._waiting = 0  # bytes of the entries
        self._stream: _LogStream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._worker: Worker | None = None

    def add(self, worker: Worker, entry: Message) -> None:
        self._worker = worker
        if self._waiting >= self._limit:
            self.flush()
            if self._waiting >= self._limit:
                self._stats.logs_dropped += 1
                return
        self._stats.logs_written += 1
        self._entries.append(entry)
        self._waiting += entry.ByteSize()
        if self._waiting >= self._size or self._is_closed:
            self.flush()
        if self._entries and self._timer is None:
            self._timer = worker.loop.call_later(self._interval, self._timed)

    def flush(self) -> None:
        """Send what waits, unless the service takes no more for now."""
        stream = self._stream
        if not self._entries or (stream is not None and not stream.is_ready):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries, self._entries = self._entries, []
        self._waiting = 0
        message = StreamAccessLogsMessage()
        if isinstance(entries[0], HTTPAccessLogEntry):
            message.http_logs.log_entry.extend(entries)
        else:
            message.tcp_logs.log_entry.extend(entries)
        if stream is None:
            self._open(message, len(entries))
        else:
            stream.send_payload(_framed(message), done=False)

    def close(self) -> None:
        """Nothing logs here any more: send what can be sent, and end the stream. What connections that outlive their
        configuration still have to say goes out on streams of its own.
        """
        self._is_closed = True
        self.flush()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.send_payload(b"", done=True)
            self._stats.logs_dropped += len(self._entries)
            self._entries.clear()
            self._waiting = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timed(self) -> None:
        self._timer = None
        self.flush()
        if self._entries and self._worker is not None:
            self._timer = self._worker.loop.call_later(self._interval, self._timed)

    def _open(self, message: StreamAccessLogsMessage, count: int) -> None:
        """A new stream, whose first message says who we are."""
        assert self._worker is not None
        message.identifier.node.CopyFrom(self._node)
        message.identifier.log_name = self._log_name
        headers = ((b"te", b"trailers"), (b"content-type", b"application/grpc"), *self._metadata)
        head = own_head(b"POST", _PATH, self._authority, headers)
        stream = _LogStream(self._worker, self._cluster, head, self._ended, count)
        if not self._is_closed:
            self._stream = stream
        stream.start(_framed(message), done=self._is_closed)

    def _ended(self, unsent: int) -> None:
        """The stream is over; the next entries open another."""
        self._stream = None
        self._stats.logs_dropped += unsent


class _LogStream(AsyncStream):
    """One call of StreamAccessLogs. `ended` is told how many entries never left; what is answered is of no use."""

    __slots__ = ("_ended", "_first")

    def __init__(
        self, worker: Worker, cluster: str, head: RequestHead, ended: Callable[[int], None], first: int
    ) -> None:
        AsyncStream.__init__(self, worker, cluster, head)
        self._ended = ended
        self._first = first

    @property
    def is_ready(self) -> bool:
        """Whether it takes a message now."""
        return self.upstream is not None and not self.is_blocked

    def upstream_ready(self, upstream: RequestEncoder) -> None:
        self._first = 0
        AsyncStream.upstream_ready(self, upstream)

    def on_end(self) -> None:
        self._ended(self._first)

    def on_failure(self, failure: Failure) -> None:
        _LOG.debug("the access log stream to %s ended: %s", self.cluster_name, type(failure).__name__)
        self._ended(self._first)


def _framed(message: StreamAccessLogsMessage) -> bytes:
    body = message.SerializeToString()
    return b"\0%b%b" % (len(body).to_bytes(4, "big"), body)
