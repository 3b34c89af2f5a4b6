"""The store's Kubernetes semantics, and its file."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from pathlib import Path

import pytest
from store_objects import REVIEWS, fault, port, service, version, with_status

from mesh.config.decode import decode_object
from mesh.config.history import HISTORY_EVENTS, Event, EventType, History, Subscription
from mesh.config.keys import AlreadyExistsError, ConflictError, GoneError, Key, NotFoundError, StoreError, key_of
from mesh.config.problems import InvalidError
from mesh.config.store import Store


@pytest.fixture
def store() -> Store:
    return Store()


class TestWrites:
    def test_create_assigns_identity_and_version(self, store: Store) -> None:
        created = store.create(service())
        meta = created.resource.metadata
        assert (meta.uid != "", meta.generation, version(created)) == (True, 1, store.version)
        assert store.get(REVIEWS) == created
        assert created.raw["metadata"]["resourceVersion"] == meta.resource_version

    def test_create_twice_is_refused(self, store: Store) -> None:
        store.create(service())
        with pytest.raises(AlreadyExistsError, match="Service default/reviews already exists"):
            store.create(service())

    def test_replace_needs_the_version_that_was_read(self, store: Store) -> None:
        first = store.create(service())
        second = store.replace(decode_object({**service(port=1).raw, "metadata": first.raw["metadata"]}))
        assert version(second) > version(first)
        with pytest.raises(
            ConflictError, match=f"read at resourceVersion {version(first)}, it is now at {version(second)}"
        ):
            store.replace(decode_object({**service(port=2).raw, "metadata": first.raw["metadata"]}))
        assert port(store) == 1

    def test_replace_of_nothing_is_refused(self, store: Store) -> None:
        with pytest.raises(NotFoundError, match="Service default/reviews not found"):
            store.replace(service())

    def test_apply_of_the_same_content_changes_nothing(self, store: Store) -> None:
        first = store.apply(service())
        assert store.apply(service()) == first
        assert store.version == version(first)

    def test_generation_counts_changes_of_the_spec_only(self, store: Store) -> None:
        store.apply(service())
        labelled = store.apply(service(labels={"a": "b"}))
        assert labelled.resource.metadata.generation == 1
        assert store.apply(service(port=1)).resource.metadata.generation == 2

    def test_what_the_store_assigns_is_not_taken_from_the_writer(self, store: Store) -> None:
        created = store.apply(service(uid="mine", generation=7, creationTimestamp="2001-01-01T00:00:00Z"))
        meta = created.resource.metadata
        assert meta.uid != "mine"
        assert meta.generation == 1
        assert meta.creation_timestamp is not None
        assert meta.creation_timestamp.year > 2001

    def test_creation_times_differ_and_keep_the_order_of_writing(self, store: Store) -> None:
        store.apply_all([service(name) for name in "zyx"])
        times = [store.get(Key("Service", "default", name)).resource.metadata.creation_timestamp for name in "zyx"]
        assert times == sorted(times)
        assert len(set(times)) == 3

    def test_status_stays_when_the_writer_says_nothing_of_it(self, store: Store) -> None:
        store.apply(with_status(service()))
        applied = store.apply(service(port=1))
        assert applied.raw["status"] == {"loadBalancer": {}}

    def test_apply_all_is_all_or_nothing(self, store: Store) -> None:
        old = store.create(service("a"))
        store.apply(service("a", port=1))
        before = store.version
        stale = decode_object({**service("a", port=2).raw, "metadata": old.raw["metadata"]})
        with pytest.raises(ConflictError):
            store.apply_all([service("b"), stale])
        assert store.version == before
        assert [m.resource.name for m in store.list("Service")] == ["a"]

    def test_the_same_object_twice_in_one_transaction_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidError, match="Service default/reviews: is given twice"):
            store.apply_all([service(), service(port=1)])

    def test_dry_run_tells_the_outcome_and_keeps_nothing(self, store: Store) -> None:
        store.create(service())
        before = store.version
        assert store.apply(service(port=1), dry_run=True).raw["spec"]["ports"][0]["port"] == 1
        assert (port(store), store.version) == (9080, before)

    def test_delete_returns_the_object_and_bumps_the_version(self, store: Store) -> None:
        created = store.create(service())
        assert store.delete(REVIEWS) == created
        assert store.version > version(created)
        with pytest.raises(NotFoundError):
            store.delete(REVIEWS)

    def test_list_is_by_kind_and_namespace_in_order(self, store: Store) -> None:
        store.apply_all([service("b"), service("a", namespace="other"), service("a")])
        assert [str(m) for m in store.list("Service")] == ["Service default/a", "Service default/b", "Service other/a"]
        assert [str(m) for m in store.list("Service", "other")] == ["Service other/a"]
        assert store.list("Pod") == []


class TestWatch:
    def test_replays_from_a_version_and_then_follows(self, store: Store) -> None:
        first = store.create(service())
        watch = store.watch(version(first))
        store.apply(service(port=1))
        store.delete(REVIEWS)
        events = watch.pending()
        assert [event.type for event in events] == [EventType.MODIFIED, EventType.DELETED]
        assert [event.version for event in events] == sorted({event.version for event in events})
        assert events[1].version == store.version
        assert events[0].previous == first

    def test_an_object_that_stops_matching_is_deleted_to_this_reader(self, store: Store) -> None:
        watch = store.watch(match=lambda m: m.resource.metadata.labels.get("app") == "a")
        store.apply(service(labels={"app": "a"}))
        store.apply(service(labels={"app": "b"}))
        store.apply(service(labels={"app": "b"}, annotations={"x": "y"}))
        store.apply(service(labels={"app": "a"}))
        assert [event.type for event in watch.pending()] == [EventType.ADDED, EventType.DELETED, EventType.ADDED]

    def test_a_version_before_the_history_is_gone(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "store.db")
        first = store.create(service())
        store.apply(service(port=1))
        store.close()
        reopened = Store(tmp_path / "store.db")
        with pytest.raises(GoneError, match="list again"):
            reopened.watch(version(first))
        assert reopened.watch(reopened.version).pending() == []
        reopened.close()

    def test_the_history_is_bounded_and_says_so(self) -> None:
        history, added = History(0), service()
        slow, quick = Subscription(history, 0), Subscription(history, 0)
        written = 2 * HISTORY_EVENTS + 1
        for number in range(1, written + 1):
            history.append([Event(EventType.ADDED, added, number)], number)
            assert len(quick.pending()) == 1
        with pytest.raises(GoneError, match=f"the oldest known is {written - HISTORY_EVENTS}"):
            slow.pending()
        assert len(Subscription(history, history.floor).pending()) == HISTORY_EVENTS

    def test_a_version_of_the_future_is_gone(self, store: Store) -> None:
        with pytest.raises(GoneError, match="another store"):
            store.watch(store.version + 1)

    def test_waiting_wakes_for_each_transaction_as_a_whole(self, store: Store) -> None:
        async def scenario() -> list[str]:
            watch = store.watch()
            waiting = asyncio.ensure_future(watch.batch())
            await asyncio.sleep(0)
            store.apply_all([service("a"), service("b")])
            return [event.manifest.resource.name for event in await asyncio.wait_for(waiting, 5)]

        assert asyncio.run(scenario()) == ["a", "b"]

    def test_advance_tells_of_a_transaction_that_shows_nothing(self, store: Store) -> None:
        async def scenario() -> tuple[list[object], bool]:
            store.apply_all([service(), fault(laid=(service(port=1),))])
            watch = store.watch(match=lambda m: m.kind.name == "Service")
            waiting = asyncio.ensure_future(watch.advance())
            await asyncio.sleep(0)
            store.apply(service(port=2))
            events: list[object] = list(await asyncio.wait_for(waiting, 5))
            return events, watch.version == store.version

        assert asyncio.run(scenario()) == ([], True)

    def test_events_one_by_one(self, store: Store) -> None:
        async def scenario() -> list[str]:
            watch = store.watch()
            store.apply_all([service("a"), service("b")])
            names: list[str] = []
            async for event in watch:
                names.append(event.manifest.resource.name)
                if len(names) == 2:
                    store.create(service("c"))
                if len(names) == 3:
                    break
            return names

        assert asyncio.run(scenario()) == ["a", "b", "c"]

    def test_a_cancelled_wait_loses_nothing(self, store: Store) -> None:
        async def scenario() -> int:
            watch = store.watch()
            waiting = asyncio.ensure_future(watch.batch())
            await asyncio.sleep(0)
            store.create(service())
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            store.apply(service(port=1))
            return len(await asyncio.wait_for(watch.batch(), 5))

        assert asyncio.run(scenario()) == 2


class TestFile:
    def test_everything_is_there_after_reopening(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "store.db")
        store.apply_all([service(), fault(laid=(service(port=1), service("extra")))])
        seen, end = [m.raw["spec"] for m in store.everything()], store.next_expiry()
        before = store.version
        store.close()
        reopened = Store(tmp_path / "store.db")
        assert [m.raw["spec"] for m in reopened.everything()] == seen
        assert (reopened.version, reopened.next_expiry()) == (before, end)
        assert [version(found) for found in reopened.list("Service")] == [before, before]
        assert version(reopened.create(service("later"))) > before
        reopened.close()

    def test_the_file_is_for_its_owner_only(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "store.db")
        store.create(service())
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
        store.close()

    def test_pods_can_be_forgotten_on_opening(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "store.db")
        pod = decode_object({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": []}})
        store.apply_all([service(), pod])
        store.close()
        reopened = Store(tmp_path / "store.db", forget_pods=True)
        assert [key_of(m).kind for m in reopened.everything()] == ["Service"]
        reopened.close()

    def test_a_second_process_is_refused(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "store.db")
        with pytest.raises(StoreError, match="in use by another process"):
            Store(tmp_path / "store.db")
        store.close()

    def test_an_object_of_a_later_version_is_refused_by_name(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "store.db")
        store.create(service())
        store.close()
        with sqlite3.connect(tmp_path / "store.db") as database:
            database.execute("UPDATE objects SET document = replace(document, 'ports', 'portz')")
        database.close()
        with pytest.raises(StoreError, match=r'default/reviews: spec.portz: unknown field "portz"'):
            Store(tmp_path / "store.db")

    def test_a_file_that_is_no_database_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "store.db").write_text("no database, " * 100)
        with pytest.raises(StoreError, match="cannot be used"):
            Store(tmp_path / "store.db")
