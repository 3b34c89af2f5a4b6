"""What a log service is sent, when, and what becomes of entries that it does not take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from mesh.proxy.http.rescue import Failure, NoHealthyUpstream
from mesh.proxy.observe.counters import LogServiceStats
from mesh.proxy.observe.log_entries import add_objects, objects_of
from mesh.proxy.observe.log_service import LogService
from mesh.proxy.observe.upstream_counters import ClusterStats
from mesh.proxy.observe.workload import Workload
from mesh.proxy.runtime import Runtime, Worker

ENTRY = HTTPAccessLogEntry()
ENTRY.request.path = "/" + "a" * 99


class Pool:
    """Keeps who asks for a connection, and takes what is sent."""

    def __init__(self) -> None:
        self.asking: Any = None
        self.caller: Any = None
        self.messages: list[StreamAccessLogsMessage] = []
        self.ended = 0

    def request(self, requester: Any) -> None:
        self.asking = requester

    def connect(self) -> None:
        self.caller = self.asking
        self.asking.upstream_ready(self)

    def send_request(self, head: Any, pieces: list[bytes], done: bool) -> None:
        for piece in pieces:
            self.send_payload(piece, done)

    def send_payload(self, payload: bytes, done: bool) -> None:
        self.ended += done
        if not payload:
            return
        assert int.from_bytes(payload[1:5], "big") == len(payload) - 5
        self.messages.append(StreamAccessLogsMessage.FromString(payload[5:]))


class Cluster:
    """The one cluster, whose only host may be away."""

    def __init__(self, pool: Pool | None) -> None:
        self.pool = pool
        self.stats = ClusterStats()

    def pick(self) -> Any:
        return None if self.pool is None else type("Host", (), {"pool": self.pool, "rq_error": 0})()


def play(pool: Pool | None, size: int, act: Callable[[Callable[[], None], LogService], None]) -> LogServiceStats:
    stats = LogServiceStats()

    async def run() -> None:
        worker = Worker(asyncio.get_running_loop(), print)
        cluster: Any = Cluster(pool)
        worker.runtime = Runtime(clusters={"logs": cluster})
        service = LogService("logs", "", (), node=Node(id="n"), log_name="l", stats=stats, interval=60.0, size=size)
        act(lambda: service.add(worker, ENTRY), service)
        service.close()
        await worker.close()

    asyncio.run(run())
    return stats


def test_the_first_message_alone_says_who_logs() -> None:
    pool = Pool()

    def act(add: Callable[[], None], service: LogService) -> None:
        add()
        pool.connect()
        add()

    stats = play(pool, 0, act)
    assert [message.identifier.node.id for message in pool.messages] == ["n", ""]
    assert [len(message.http_logs.log_entry) for message in pool.messages] == [1, 1]
    assert (stats.logs_written, stats.logs_dropped) == (2, 0)


def test_entries_wait_until_there_are_enough() -> None:
    pool = Pool()

    def act(add: Callable[[], None], service: LogService) -> None:
        for _ in range(3):
            add()
        pool.connect()

    play(pool, 2 * ENTRY.ByteSize() + 1, act)
    assert [len(message.http_logs.log_entry) for message in pool.messages] == [3]


def test_a_service_that_takes_no_more_costs_bounded_memory() -> None:
    pool = Pool()

    def act(add: Callable[[], None], service: LogService) -> None:
        add()
        pool.connect()
        pool.caller.upstream_blocked()
        for _ in range(5):
            add()
        pool.caller.upstream_unblocked()

    stats = play(pool, ENTRY.ByteSize(), act)
    assert [len(message.http_logs.log_entry) for message in pool.messages] == [1, 1]
    assert (stats.logs_written, stats.logs_dropped) == (2, 4)


def test_entries_that_nobody_is_there_for_are_counted() -> None:
    stats = play(None, 0, lambda add, service: (add(), add(), None)[-1])
    assert (stats.logs_written, stats.logs_dropped) == (2, 2)


@pytest.mark.parametrize("failure", [NoHealthyUpstream()])
def test_after_a_failure_there_is_a_new_stream(failure: Failure) -> None:
    pool = Pool()

    def act(add: Callable[[], None], service: LogService) -> None:
        add()
        pool.connect()
        pool.caller.on_failure(failure)
        add()
        pool.connect()

    play(pool, 0, act)
    assert [message.identifier.log_name for message in pool.messages] == ["l", "l"]


def test_what_comes_after_the_end_has_a_stream_of_its_own() -> None:
    pool = Pool()

    def act(add: Callable[[], None], service: LogService) -> None:
        add()
        pool.connect()
        service.close()
        assert (len(pool.messages), pool.ended) == (1, 1)
        add()
        pool.connect()
        assert (len(pool.messages), pool.ended) == (2, 2)

    play(pool, 0, act)


def test_objects_of_filter_state_are_those_that_there_are() -> None:
    objects = objects_of(["downstream_peer", "wasm.downstream_peer", "nobody.knows"])
    assert [name for name, _ in objects] == ["downstream_peer"]
    entry = HTTPAccessLogEntry()
    add_objects(entry.common_properties, SimpleNamespace(source=None), objects)
    assert not entry.common_properties.filter_state_objects
    source = Workload("reviews-v1", "default", "reviews", "v1", app="reviews")
    add_objects(entry.common_properties, SimpleNamespace(source=source), objects)
    found = Struct()
    assert entry.common_properties.filter_state_objects["downstream_peer"].Unpack(found)
    assert MessageToDict(found) == {
        "WORKLOAD_NAME": "reviews-v1",
        "NAMESPACE": "default",
        "LABELS": {
            "service.istio.io/canonical-name": "reviews",
            "service.istio.io/canonical-revision": "v1",
            "app": "reviews",
        },
    }
