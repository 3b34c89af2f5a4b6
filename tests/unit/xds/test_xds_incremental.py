"""An incremental stream as a transcript: what the proxy says, what changes it is sent, and what it then has."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from xdskit.fake_config import FakeConfig

from mesh.xds.ads.incremental import Incremental
from mesh.xds.ads.touched import Touched
from mesh.xds.types import BY_URL, PUSH_ORDER, XdsType

CDS, EDS, LDS, RDS = XdsType.CDS, XdsType.EDS, XdsType.LDS, XdsType.RDS
NOW = datetime(2026, 1, 1, tzinfo=UTC)
Held = dict[XdsType, dict[str, str]]


class Proxy:
    """Speaks to a stream without a network. Notes are `TYPE name name -removed`; `held` are versions by name."""

    def __init__(self, config: FakeConfig, held: Held | None = None) -> None:
        self.stream = Incremental(config)
        self.held: Held = held or {type_: {} for type_ in XdsType}
        self.last: dict[XdsType, DeltaDiscoveryResponse] = {}

    def sent(self) -> list[str]:
        """Everything the stream sends before it waits for an answer."""
        notes = []
        while (found := self.stream.next_response()) is not None:
            type_, encoded = found
            response = self.last[type_] = DeltaDiscoveryResponse.FromString(encoded)
            assert BY_URL[response.type_url] is type_
            names = sorted(own.name for own in response.resources)
            notes.append(" ".join((type_.value, *names, *(f"-{name}" for name in response.removed_resources))))
        return notes

    def ask(self, type_: XdsType, *names: str) -> list[str]:
        """The first subscription of a type on this stream, as Envoy makes it: with what there is from before."""
        known = self.held[type_]
        versions = known if type_ in (CDS, LDS) else {name: known[name] for name in names if name in known}
        self.say(type_, resource_names_subscribe=names, initial_resource_versions=versions)
        return self.sent()

    def add(self, type_: XdsType, *names: str) -> list[str]:
        self.say(type_, resource_names_subscribe=names)
        return self.sent()

    def drop(self, type_: XdsType, *names: str) -> list[str]:
        for name in names:
            self.held[type_].pop(name, None)
        self.say(type_, resource_names_unsubscribe=names)
        return self.sent()

    def ack(self, type_: XdsType) -> list[str]:
        self.apply(type_)
        self.say(type_, response_nonce=self.last[type_].nonce)
        return self.sent()

    def nack(self, type_: XdsType, *, keeping: frozenset[str] = frozenset()) -> list[str]:
        """Refuse the last response; `keeping` are its good members, which Envoy applies all the same."""
        self.apply(type_, keeping)
        self.say(type_, response_nonce=self.last[type_].nonce, error_detail={"message": "no"})
        return self.sent()

    def apply(self, type_: XdsType, only: frozenset[str] | None = None) -> None:
        response, held = self.last[type_], self.held[type_]
        held.update({own.name: own.version for own in response.resources if only is None or own.name in only})
        for name in response.removed_resources:
            if only is None or name in only:
                held.pop(name, None)

    def say(self, type_: XdsType, **fields: object) -> None:
        self.stream.request(DeltaDiscoveryRequest(type_url=type_.url, **fields), NOW)

    def offer(self, config: FakeConfig, touched: Touched | None = None) -> list[str]:
        self.stream.offer(config, touched or Touched())
        return self.sent()


def settled(config: FakeConfig, held: Held | None = None) -> Proxy:
    """A proxy that has taken all of its first configuration."""
    proxy = Proxy(config, held)
    for type_, names in ((CDS, ()), (EDS, tuple(config.c)), (LDS, ()), (RDS, ("r",))):
        if proxy.ask(type_, *names):
            proxy.ack(type_)
    assert proxy.stream.synced_version == config.resource_version
    return proxy


def test_only_what_changed_is_sent() -> None:
    proxy = settled(FakeConfig(1, {"a": "1", "b": "1", "c": "1"}))
    assert proxy.offer(FakeConfig(2, {"a": "1", "b": "2", "c": "1"})) == ["CDS b", "EDS b"]
    proxy.ack(EDS)
    assert proxy.ack(CDS) == []
    assert proxy.stream.synced_version == 2


def test_a_switch_of_clusters_is_make_before_break() -> None:
    proxy = settled(FakeConfig(1, {"old": "1"}))
    assert proxy.offer(FakeConfig(2, {"new": "1"}, r={"r": "2"})) == ["CDS new"]
    assert proxy.ack(CDS) == []
    assert proxy.add(EDS, "new") == ["EDS new"]
    assert proxy.ack(EDS) == ["RDS r"]
    assert proxy.ack(RDS) == ["CDS -old"]
    proxy.ack(CDS)
    proxy.drop(EDS, "old")
    assert proxy.stream.synced_version == 2
    assert list(proxy.held[CDS]) == ["new"]


def test_a_proxy_that_comes_back_is_sent_what_changed_meanwhile() -> None:
    before = settled(FakeConfig(1, {"a": "1", "b": "1", "gone": "1"}))
    back = Proxy(FakeConfig(2, {"a": "1", "b": "2", "new": "1"}), before.held)
    assert back.ask(CDS) == ["CDS b new"]
    assert back.ask(EDS, "a", "b", "gone") == ["EDS b"]
    assert back.ack(CDS) == []
    assert back.ack(EDS) == []
    assert back.add(EDS, "new") == ["EDS new"]
    assert back.ack(EDS) == []
    assert back.ask(LDS) == ["LDS"]
    assert back.ask(RDS, "r") == []
    assert back.ack(LDS) == ["CDS -gone"]
    assert back.ack(CDS) == []
    assert back.stream.synced_version == 2


def test_a_proxy_that_has_everything_is_sent_no_resource() -> None:
    config = FakeConfig(1, {"a": "1", "b": "1"})
    before = settled(config)
    back = Proxy(config, before.held)
    assert back.ask(CDS) == ["CDS"]
    assert back.ask(EDS, "a", "b") == []
    assert back.ack(CDS) == []
    assert back.ask(LDS) == ["LDS"]
    assert back.ask(RDS, "r") == []
    assert back.ack(LDS) == []
    assert back.stream.synced_version == 1


def test_endpoints_of_a_cluster_that_changed_come_again_though_the_proxy_has_them() -> None:
    """Its clusters may be answered before it asks for endpoints; Envoy does not ask again for a name it has."""
    before = settled(FakeConfig(1, {"a": "1", "b": "1"}))
    back = Proxy(FakeConfig(2, {"a": "2", "b": "1"}), before.held)
    assert back.ask(CDS) == ["CDS a"]
    assert back.ack(CDS) == []
    assert back.ask(EDS, "a", "b") == ["EDS a"]


def test_a_name_asked_for_again_is_sent_again() -> None:
    """The client may have forgotten it; the protocol demands it."""
    proxy = settled(FakeConfig(1, {"a": "1", "b": "1"}))
    assert proxy.add(EDS, "a") == ["EDS a"]
    proxy.ack(EDS)
    assert proxy.add(CDS, "b") == ["CDS b", "EDS b"]


def test_what_was_refused_is_settled_by_the_next_response() -> None:
    """Envoy keeps the good members of a response that it refuses: here it has `new` after all."""
    proxy = settled(FakeConfig(1, {"a": "1", "b": "1"}))
    proxy.offer(FakeConfig(2, {"a": "2", "b": "1", "new": "1"}))
    assert proxy.nack(CDS, keeping=frozenset({"new"})) == []
    proxy.ack(EDS)
    assert proxy.offer(FakeConfig(3, {"a": "1", "b": "1"})) == ["CDS a -new", "EDS a"]
    proxy.ack(EDS)
    proxy.ack(CDS)
    assert not proxy.stream.nacks
    assert proxy.stream.synced_version == 3
    assert list(proxy.held[CDS]) == ["a", "b"]


def test_a_refused_version_is_not_sent_again_until_it_changes() -> None:
    proxy = settled(FakeConfig(1, {"a": "1"}))
    proxy.offer(FakeConfig(2, {"a": "bad"}))
    proxy.nack(CDS)
    proxy.ack(EDS)
    assert proxy.offer(FakeConfig(3, {"a": "bad"})) == []
    assert proxy.offer(FakeConfig(4, {"a": "good"})) == ["CDS a", "EDS a"]


def test_a_proxy_that_came_back_keeps_its_order_when_it_refuses() -> None:
    before = settled(FakeConfig(1, {"a": "1"}))
    back = Proxy(FakeConfig(2, {"a": "bad"}, r={"r": "2"}), before.held)
    back.ask(CDS)
    back.nack(CDS)
    back.ask(EDS, "a")
    assert back.ask(LDS) == []


def test_there_is_no_such_route_configuration() -> None:
    proxy = settled(FakeConfig(1, {"a": "1"}))
    assert proxy.add(RDS, "ghost") == ["RDS -ghost"]
    proxy.ack(RDS)
    assert proxy.offer(FakeConfig(2, {"a": "1"})) == []
    assert proxy.offer(FakeConfig(3, {"a": "1"}, r={"r": "1", "ghost": "1"})) == ["RDS ghost"]


def test_clusters_may_be_asked_for_by_name() -> None:
    proxy = Proxy(FakeConfig(1, {"a": "1", "b": "1", "c": "1"}))
    assert proxy.ask(CDS, "b", "ghost") == ["CDS b -ghost"]
    assert proxy.ask(EDS, "b", "a") == ["EDS a b"]
    assert proxy.ack(EDS) == []
    assert proxy.ack(CDS) == []
    assert proxy.add(CDS, "a") == ["CDS a", "EDS a"]
    proxy.ack(EDS)
    proxy.ack(CDS)
    assert proxy.drop(CDS, "b") == []
    assert proxy.offer(FakeConfig(2, {"a": "1", "b": "2", "c": "2"})) == []
    assert proxy.offer(FakeConfig(3, {"b": "2"})) == ["CDS -a"]


def test_an_answer_to_an_older_response_is_passed_over_but_its_names_are_not() -> None:
    proxy = settled(FakeConfig(1, {"a": "1"}))
    former = proxy.last[EDS].nonce
    proxy.offer(FakeConfig(2, {"a": "1"}, e={"a": "more"}), Touched(frozenset({"a"}), routes=False))
    proxy.say(EDS, response_nonce=former, error_detail={"message": "old"}, resource_names_subscribe=["ghost"])
    assert not proxy.stream.nacks
    assert proxy.ack(EDS) == ["EDS ghost"]


CONTENTS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123"), max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), CONTENTS, CONTENTS),
        st.tuples(st.just("ack"), st.sampled_from(PUSH_ORDER)),
        st.tuples(st.just("nack"), st.sampled_from(PUSH_ORDER), st.frozensets(st.sampled_from("abcdl"), max_size=3)),
        st.tuples(st.just("reconnect")),
    ),
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, CONTENTS, CONTENTS)
def test_whatever_happens_the_proxy_ends_with_what_it_should_have(
    steps: list[tuple[object, ...]], clusters: dict[str, str], endpoints: dict[str, str]
) -> None:
    """Over any course of changes, answers, refusals with some members kept, and lost streams."""
    run = _Run(FakeConfig(1, clusters, endpoints))
    for step in steps:
        run.take(step)
    last = dict.fromkeys("z" + "".join(clusters), "the last")  # nothing of it was ever refused
    run.take(("offer", last, last))
    run.settle()
    final = run.config
    assert run.proxy.stream.synced_version == final.resource_version
    assert run.proxy.held[CDS] == {own.name: own.version for own in final.clusters}
    assert run.proxy.held[LDS] == {own.name: own.version for own in final.listeners}
    wanted = {name: found.version for name in final.c if (found := final.endpoints(name)) is not None}
    assert run.proxy.held[EDS] == wanted


class _Run:
    """A proxy with Envoy's habits: endpoints are asked for with the cluster that needs them, and given up with it."""

    def __init__(self, config: FakeConfig) -> None:
        self.config = config
        self.proxy = Proxy(config)
        self.unanswered: list[XdsType] = []
        self.names: set[str] = set()
        self.connect()

    def take(self, step: tuple[object, ...]) -> None:
        kind, *rest = step
        if kind == "offer":
            c, e = rest
            version = self.config.resource_version + 1
            self.config = replace(
                self.config, resource_version=version, c=c, e=e, l={"l": str(version)}, r={"r": str(version)}
            )
            self.proxy.stream.offer(self.config, Touched())
        elif kind == "reconnect":
            self.proxy = Proxy(self.config, self.proxy.held)
            self.connect()
        elif rest[0] in self.unanswered:
            self.answer(rest[0], rest[1] if kind == "nack" else None)
        self.hear()

    def connect(self) -> None:
        self.unanswered = []
        for type_ in PUSH_ORDER:
            known = self.proxy.held[type_]
            names = {CDS: [], EDS: sorted(self.names), LDS: [], RDS: ["r"]}[type_]
            if type_ is EDS and not names:
                continue
            mine = known if type_ in (CDS, LDS) else {name: known[name] for name in names if name in known}
            self.proxy.say(type_, resource_names_subscribe=names, initial_resource_versions=mine)
        self.hear()

    def hear(self) -> None:
        self.unanswered += [XdsType(note.split()[0]) for note in self.proxy.sent()]

    def answer(self, type_: XdsType, keeping: frozenset[str] | None) -> None:
        self.unanswered.remove(type_)
        nonce = self.proxy.last[type_].nonce
        self.proxy.apply(type_, keeping)
        self.follow_clusters()
        refusal = {} if keeping is None else {"error_detail": {"message": "no"}}
        self.proxy.say(type_, response_nonce=nonce, **refusal)

    def follow_clusters(self) -> None:
        wanted = set(self.proxy.held[CDS])
        for name in self.proxy.held[EDS].keys() - wanted:  # also what comes for a cluster that is gone by now
            del self.proxy.held[EDS][name]
        if wanted != self.names:
            added, gone = sorted(wanted - self.names), sorted(self.names - wanted)
            self.proxy.say(EDS, resource_names_subscribe=added, resource_names_unsubscribe=gone)
        self.names = wanted

    def settle(self) -> None:
        for _ in range(40):
            if not self.unanswered:
                return
            self.answer(self.unanswered[0], None)
            self.hear()
        raise AssertionError("it does not come to rest")
