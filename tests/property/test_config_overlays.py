"""Whatever is written, laid over, hidden and lifted: readers see what a naive model sees, and so do watchers."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.config.decode import Manifest, decode_object
from mesh.config.history import EventType, Subscription
from mesh.config.keys import ConflictError, Key, NotFoundError
from mesh.config.store import Store

NAMES = ("a", "b", "c")
FAULTS = ("f", "g", "h")
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)

names = st.sampled_from(NAMES)
ports = st.integers(1, 5)
apply = st.tuples(st.just("apply"), names, ports)
delete = st.tuples(st.just("delete"), names)
lay = st.tuples(
    st.just("lay"),
    st.sampled_from(FAULTS),
    st.dictionaries(names, st.one_of(ports, st.none()), max_size=3),
)
lift = st.tuples(st.just("lift"), st.sampled_from(FAULTS))
expire = st.tuples(st.just("expire"))
reopen = st.tuples(st.just("reopen"))
steps = st.lists(st.one_of(apply, delete, lay, lift, expire, reopen), max_size=25)


class Model:
    """A dict, and a list of dicts over it; a port of None hides."""

    def __init__(self) -> None:
        self.base: dict[str, int] = {}
        self.faults: dict[str, dict[str, int | None]] = {}

    def apply(self, name: str, port: int) -> None:
        self.base[name] = port

    def delete(self, name: str) -> None:
        self.base.pop(name, None)

    def lay(self, fault: str, over: dict[str, int | None]) -> None:
        self.faults[fault] = over

    def lift(self, fault: str) -> None:
        self.faults.pop(fault, None)

    def expire(self) -> None:
        self.faults.clear()

    def reopen(self) -> None:
        """A restart changes nothing."""

    def seen(self) -> dict[str, int]:
        seen: dict[str, int | None] = dict(self.base)
        for over in self.faults.values():
            seen.update(over)
        return {name: port for name, port in seen.items() if port is not None}


class Real:
    """The same steps on a Store in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(path)

    def reopen(self) -> None:
        self.store.close()
        self.store = Store(self.path)

    def apply(self, name: str, port: int) -> None:
        self.store.apply(service(name, port))

    def delete(self, name: str) -> None:
        # The model ignores the deletion of what is not there, or is there by a Fault only.
        with suppress(NotFoundError, ConflictError):
            self.store.delete(Key("Service", "default", name))

    def lay(self, fault: str, over: dict[str, int | None]) -> None:
        hidden = [name for name, port in over.items() if port is None]
        self.store.apply(
            decode_object(
                {
                    "apiVersion": "meshdrill.dev/v1alpha1",
                    "kind": "Fault",
                    "metadata": {"name": fault},
                    "spec": {
                        "leaseSeconds": 60,
                        "resources": [dict(service(name, port).raw) for name, port in over.items() if port is not None],
                        "deletions": [{"apiVersion": "v1", "kind": "Service", "name": name} for name in hidden],
                    },
                }
            )
        )

    def lift(self, fault: str) -> None:
        with suppress(NotFoundError):
            self.store.delete(Key("Fault", "default", fault))

    def expire(self) -> None:
        self.store.expire(FOREVER)

    def seen(self) -> dict[str, int]:
        return {found.resource.name: port_of(found) for found in self.store.list("Service")}


class Watcher:
    """What a reader knows who listed once and then only followed the watch."""

    def __init__(self, real: Real) -> None:
        self.seen = real.seen()
        self.watch: Subscription = real.store.watch(match=lambda found: found.kind.name == "Service")
        self.version = self.watch.version

    def follow(self) -> None:
        for event in self.watch.pending():
            name = event.manifest.resource.name
            assert event.version > self.version
            assert event.manifest.resource.metadata.resource_version == str(event.version)
            assert (name in self.seen) == (event.type is not EventType.ADDED)
            self.version = event.version
            if event.type is EventType.DELETED:
                del self.seen[name]
            else:
                self.seen[name] = port_of(event.manifest)


def service(name: str, port: int) -> Manifest:
    spec = {"ports": [{"port": port}]}
    return decode_object({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})


def port_of(found: Manifest) -> int:
    return int(found.raw["spec"]["ports"][0]["port"])


@settings(max_examples=120, deadline=None)
@given(steps, st.integers(0, 25))
def test_the_effective_view_and_its_watchers_agree_with_a_naive_model(
    taken: list[tuple[object, ...]], joins: int
) -> None:
    with TemporaryDirectory() as folder:
        model, real = Model(), Real(Path(folder) / "store.db")
        early = late = Watcher(real)
        for index, (verb, *arguments) in enumerate(taken):
            getattr(model, str(verb))(*arguments)
            getattr(real, str(verb))(*arguments)
            assert real.seen() == model.seen()
            if verb == "reopen":  # the history is gone, so readers list again
                early = late = Watcher(real)
            if index == joins:
                late = Watcher(real)
            early.follow()
            assert early.seen == model.seen()
        late.follow()
        assert late.seen == model.seen()
        model.expire()
        real.expire()
        assert real.seen() == model.base
        real.store.close()
