"""The store's Fault overlays: what they lay and hide, and how they end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from store_objects import REVIEWS, fault, port, service, with_status

from mesh.api.meshdrill import FAULT_ANNOTATION
from mesh.config.decode import Manifest, decode_object
from mesh.config.keys import AlreadyExistsError, ConflictError, Key, NotFoundError
from mesh.config.problems import InvalidError
from mesh.config.store import Store


@pytest.fixture
def store() -> Store:
    return Store()


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
