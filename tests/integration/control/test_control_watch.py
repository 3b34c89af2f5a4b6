"""Watches: what they tell, how they end, and that they outlive the process they watch."""

import queue
import threading
from collections.abc import Iterator

import pytest
from control_process import PATIENCE_S, ControlProcess, subset_of, virtual_service

from mesh.client import ApiError, Event, MeshClient, Watch


class Reader:
    """Reads a watch in a thread of its own; `next` waits for an event."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.failure: Exception | None = None
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def next(self) -> tuple[str, str]:
        """Type and name of the next event; fails the test when there is none in time."""
        event = self.next_event()
        return event.type, event.object["metadata"]["name"]

    def next_event(self) -> Event:
        event = self._events.get(timeout=PATIENCE_S)
        assert event is not None, f"the watch has ended: {self.failure}"
        return event

    def end(self) -> None:
        self.watch.close()
        self.wait_ended()

    def wait_ended(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _read(self) -> None:
        try:
            for event in self.watch:
                self._events.put(event)
        except Exception as error:
            self.failure = error
        self._events.put(None)


@pytest.fixture
def readers() -> Iterator[list[Reader]]:
    readers: list[Reader] = []
    yield readers
    for reader in readers:
        reader.end()


def test_tells_what_happens_after_a_version(client: MeshClient, readers: list[Reader]) -> None:
    client.apply(virtual_service("before"))
    since = client.list("vs").resource_version
    client.apply(virtual_service("a", "v1"))
    reader = Reader(client.watch("vs", since))
    readers.append(reader)
    client.apply(virtual_service("a", "v2"))
    client.apply(virtual_service("a", "v2"))
    client.delete("vs", "a")
    seen = [reader.next_event() for _ in range(3)]
    assert [event.type for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert [subset_of(event.object) for event in seen] == ["v1", "v2", "v2"]
    versions = [int(event.object["metadata"]["resourceVersion"]) for event in seen]
    assert int(since) < versions[0] < versions[1] < versions[2]


def test_without_a_version_begins_with_what_is_there(client: MeshClient, readers: list[Reader]) -> None:
    client.apply(virtual_service("there-1"))
    reader = Reader(client.watch("vs", namespace="default"))
    readers.append(reader)
    seen = set()
    while "there-1" not in seen:
        kind, name = reader.next()
        assert kind == "ADDED"
        seen.add(name)
    elsewhere = virtual_service("elsewhere")
    elsewhere["metadata"]["namespace"] = "other"
    client.apply_all([elsewhere, virtual_service("there-2")])
    assert reader.next() == ("ADDED", "there-2")


def test_with_a_selector_tells_who_joins_and_leaves(client: MeshClient, readers: list[Reader]) -> None:
    since = client.list("vs").resource_version
    for team in ("b", "a", "b"):
        client.apply(virtual_service("joiner", team=team))
    reader = Reader(client.watch("vs", since, labels={"team": "a"}))
    readers.append(reader)
    assert [reader.next() for _ in range(2)] == [("ADDED", "joiner"), ("DELETED", "joiner")]


def test_closing_ends_a_reader_that_waits(client: MeshClient) -> None:
    reader = Reader(client.watch("vs", client.list("vs").resource_version))
    client.apply(virtual_service("wake"))
    assert reader.next() == ("ADDED", "wake")
    reader.end()
    assert reader.failure is None
    reader.watch.close()


def test_a_version_that_is_not_ours_has_expired(client: MeshClient) -> None:
    with pytest.raises(ApiError) as refused:
        next(client.watch("vs", "999999999"))
    assert (refused.value.status, refused.value.reason) == (410, "Expired")


def test_goes_on_through_kill_and_restart(own_control: ControlProcess, readers: list[Reader]) -> None:
    with own_control.client() as client:
        client.apply_all([virtual_service("kept"), virtual_service("changed"), virtual_service("dropped")])
        reader = Reader(client.watch("vs"))
        readers.append(reader)
        assert {reader.next() for _ in range(3)} == {("ADDED", "kept"), ("ADDED", "changed"), ("ADDED", "dropped")}

        own_control.kill()
        own_control.start().close()
        # Whether these are seen as events or as differences of a new list depends on when the reader comes back.
        client.apply(virtual_service("changed", "v2"))
        client.delete("vs", "dropped")
        client.apply(virtual_service("new"))
        assert {reader.next() for _ in range(3)} == {("MODIFIED", "changed"), ("DELETED", "dropped"), ("ADDED", "new")}


def test_a_watch_from_a_version_says_that_a_restart_forgot_it(own_control: ControlProcess) -> None:
    with own_control.client() as client:
        since = client.list("vs").resource_version
        reader = Reader(client.watch("vs", since))
        client.apply_all([virtual_service("one")])
        assert reader.next() == ("ADDED", "one")
        client.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "unrelated"}, "data": {"a": "b"}})
        own_control.kill()
        own_control.start().close()
        reader.wait_ended()
        assert isinstance(reader.failure, ApiError)
        assert reader.failure.status == 410


def test_sigterm_does_not_wait_for_readers(own_control: ControlProcess, readers: list[Reader]) -> None:
    with own_control.client() as client:
        reader = Reader(client.watch("vs"))
        readers.append(reader)
        client.apply(virtual_service("seen"))
        assert reader.next() == ("ADDED", "seen")
        assert own_control.stop() == 0
