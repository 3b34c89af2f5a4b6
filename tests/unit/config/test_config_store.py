"""The store's Kubernetes semantics and its Fault overlays."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.api.meshdrill import FAULT_ANNOTATION
from mesh.config.decode import Manifest, decode_object
from mesh.config.history import HISTORY_EVENTS, Event, EventType, History, Subscription
from mesh.config.keys import AlreadyExistsError, ConflictError, GoneError, Key, NotFoundError, StoreError, key_of
from mesh.config.problems import InvalidError
from mesh.config.store import Store

REVIEWS = Key("Service", "default", "reviews")


def service(name: str = "reviews", port: int = 9080, **metadata: object) -> Manifest:
    return decode_object(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, **metadata},
            "spec": {"ports": [{"name": "http", "port": port}]},
        }
    )


def with_status(manifest: Manifest) -> Manifest:
    return decode_object({**manifest.raw, "status": {"loadBalancer": {}}})


def fault(
    name: str = "f", *, laid: tuple[Manifest, ...] = (), hidden: tuple[Key, ...] = (), lease: float = 15
) -> Manifest:
    deletions = [{"apiVersion": "v1", "kind": key.kind, "namespace": key.namespace, "name": key.name} for key in hidden]
    return decode_object(
        {
            "apiVersion": "meshdrill.dev/v1alpha1",
            "kind": "Fault",
            "metadata": {"name": name},
            "spec": {"leaseSeconds": lease, "resources": [dict(m.raw) for m in laid], "deletions": deletions},
        }
    )


def version(manifest: Manifest) -> int:
    return int(manifest.resource.metadata.resource_version)


def port(store: Store, key: Key = REVIEWS) -> int:
    return int(store.get(key).raw["spec"]["ports"][0]["port"])


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


class TestFaults:
    def test_a_fault_lays_hides_and_adds_and_all_of_it_ends_with_the_fault(self, store: Store) -> None:
        store.apply_all([service(), service("ratings")])
        ratings, extra = Key("Service", "default", "ratings"), Key("Service", "default", "extra")
        base = store.get(REVIEWS)
        watch = store.watch(match=lambda m: m.kind.name == "Service")
        store.apply(fault(laid=(service(port=1), service("extra")), hidden=(ratings,)))

        assert port(store) == 1
        assert store.get(REVIEWS).resource.metadata.uid == base.resource.metadata.uid
        assert FAULT_ANNOTATION not in store.get(REVIEWS).resource.metadata.annotations
        assert store.get(extra).resource.metadata.annotations == {FAULT_ANNOTATION: "default/f"}
        with pytest.raises(NotFoundError):
            store.get(ratings)
        store.delete(Key("Fault", "default", "f"))

        assert (port(store), [m.resource.name for m in store.list("Service")]) == (9080, ["ratings", "reviews"])
        assert [(event.type.value, event.manifest.resource.name) for event in watch.pending()] == [
            ("ADDED", "extra"),
            ("DELETED", "ratings"),
            ("MODIFIED", "reviews"),
            ("DELETED", "extra"),
            ("ADDED", "ratings"),
            ("MODIFIED", "reviews"),
        ]

    def test_the_newest_fault_is_on_top(self, store: Store) -> None:
        store.apply(service())
        store.apply(fault("old", laid=(service(port=1),)))
        store.apply(fault("new", laid=(service(port=2),)))
        assert port(store) == 2
        store.apply(fault("old", laid=(service(port=3),)))
        assert port(store) == 2
        store.delete(Key("Fault", "default", "new"))
        assert port(store) == 3

    def test_a_write_beneath_shows_when_the_fault_lifts(self, store: Store) -> None:
        store.apply(service())
        store.apply(fault(laid=(service(port=1),)))
        watch = store.watch()
        store.apply(service(port=2))
        assert (port(store), watch.pending()) == (1, [])
        store.delete(Key("Fault", "default", "f"))
        assert port(store) == 2

    def test_an_object_read_through_an_overlay_can_be_written_back(self, store: Store) -> None:
        store.apply(service())
        store.apply(fault(laid=(service(port=1),)))
        seen = store.get(REVIEWS)
        store.replace(decode_object({**service(port=2).raw, "metadata": seen.raw["metadata"]}))
        store.delete(Key("Fault", "default", "f"))
        assert port(store) == 2

    def test_what_only_a_fault_made_can_be_kept_by_writing_it_back(self, store: Store) -> None:
        store.apply(fault(laid=(service(),)))
        store.replace(decode_object(store.get(REVIEWS).raw))
        store.delete(Key("Fault", "default", "f"))
        assert store.get(REVIEWS).resource.metadata.annotations == {}

    def test_what_only_a_fault_made_cannot_be_deleted(self, store: Store) -> None:
        store.apply(fault(laid=(service(),)))
        with pytest.raises(ConflictError, match="only while the Fault default/f lasts; delete the Fault"):
            store.delete(REVIEWS)

    def test_creating_what_a_fault_hides_says_so(self, store: Store) -> None:
        store.apply(service())
        store.apply(fault(hidden=(REVIEWS,)))
        with pytest.raises(AlreadyExistsError, match="hidden by a Fault"):
            store.create(service())

    def test_renewing_a_lease_moves_its_end_and_tells_nobody_of_the_objects(self, store: Store) -> None:
        store.apply(fault(laid=(service(),)))
        first = store.next_expiry()
        watch = store.watch(match=lambda m: m.kind.name != "Fault")
        store.apply(fault(laid=(service(),)))
        second = store.next_expiry()
        assert first is not None
        assert second is not None
        assert second > first
        assert watch.pending() == []
        assert store.get(Key("Fault", "default", "f")).resource.metadata.generation == 1

    def test_a_lease_ends_at_its_deadline_and_not_before(self, store: Store) -> None:
        store.apply(fault(laid=(service(),)))
        end = store.next_expiry()
        assert end is not None
        assert store.expire(end - timedelta(microseconds=1)) == []
        assert store.expire(end) == [Key("Fault", "default", "f")]
        assert (store.list("Service"), store.next_expiry()) == ([], None)

    def test_status_beneath_shows_through_an_overlay(self, store: Store) -> None:
        store.apply(service())
        store.apply(fault(laid=(service(port=1),)))
        store.apply(with_status(service()))
        assert (port(store), store.get(REVIEWS).raw["status"]) == (1, {"loadBalancer": {}})

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            (fault(lease=0), "spec.leaseSeconds: must be more than 0"),
            (fault(lease=1e30), "spec.leaseSeconds: must be more than 0 and at most 86400 seconds"),
            (fault(laid=(fault(),)), r"spec.resources\[0\]: a Fault cannot lay another Fault"),
            (fault(laid=(service(), service())), r"spec.resources\[1\]: Service default/reviews is laid twice"),
            (
                fault(laid=(service(),), hidden=(REVIEWS,)),
                r"spec.deletions\[0\]: Service default/reviews is also among",
            ),
            (fault(hidden=(Key("Servce", "default", "x"),)), r'spec.deletions\[0\]: unknown kind "Servce"'),
        ],
    )
    def test_a_fault_that_cannot_be_laid_is_refused_whole(self, store: Store, document: Manifest, message: str) -> None:
        with pytest.raises(InvalidError, match=message):
            store.apply(document)
        assert (store.version, store.list("Fault")) == (0, [])

    def test_problems_inside_a_laid_manifest_carry_their_path(self, store: Store) -> None:
        broken = fault(laid=(service(),))
        broken.raw["spec"]["resources"][0]["spec"]["ports"][0]["prot"] = 1
        with pytest.raises(InvalidError, match=r'spec.resources\[0\].spec.ports\[0\].prot: unknown field "prot"'):
            store.apply(decode_object(broken.raw))


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
