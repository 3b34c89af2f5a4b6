"""A stream as a transcript: what the proxy says, what it is sent, in which order."""

from __future__ import annotations

from datetime import UTC, datetime

from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from xdskit.client import resource_names
from xdskit.fake_config import FakeConfig

from mesh.xds.ads.state_of_the_world import StateOfTheWorld
from mesh.xds.ads.touched import Touched
from mesh.xds.types import BY_URL, XdsType

CDS, EDS, LDS, RDS, SDS = XdsType.CDS, XdsType.EDS, XdsType.LDS, XdsType.RDS, XdsType.SDS
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Proxy:
    """Speaks to a stream without a network, and notes what it is sent as `TYPE name name`."""

    def __init__(self, config: FakeConfig) -> None:
        self.stream = StateOfTheWorld(config)
        self.last: dict[XdsType, DiscoveryResponse] = {}
        self.names: dict[XdsType, tuple[str, ...]] = dict.fromkeys(XdsType, ())

    def sent(self) -> list[str]:
        """Everything the stream sends before it waits for an answer."""
        notes = []
        while (found := self.stream.next_response()) is not None:
            type_, encoded = found
            response = self.last[type_] = DiscoveryResponse.FromString(encoded)
            assert BY_URL[response.type_url] is type_
            notes.append(" ".join((type_.value, *sorted(resource_names(response)))))
        return notes

    def ask(self, type_: XdsType, *names: str, nonce: str | None = None) -> list[str]:
        self.names[type_] = names
        last = self.last.get(type_, DiscoveryResponse())
        self.say(type_, nonce=last.nonce if nonce is None else nonce)
        return self.sent()

    def ack(self, type_: XdsType) -> list[str]:
        return self.ask(type_, *self.names[type_])

    def nack(self, type_: XdsType, message: str = "no") -> list[str]:
        self.say(type_, nonce=self.last[type_].nonce, error=message)
        return self.sent()

    def say(self, type_: XdsType, *, nonce: str, error: str = "") -> None:
        request = DiscoveryRequest(type_url=type_.url, resource_names=self.names[type_], response_nonce=nonce)
        if error:
            request.error_detail.message = error
        self.stream.request(request, NOW)

    def offer(self, config: FakeConfig, touched: Touched | None = None) -> list[str]:
        self.stream.offer(config, touched or Touched())
        return self.sent()


def settled(config: FakeConfig) -> Proxy:
    """A proxy that has taken all of its first configuration."""
    proxy = Proxy(config)
    proxy.ask(CDS)
    proxy.ack(CDS)
    proxy.ask(EDS, *config.c)
    proxy.ack(EDS)
    proxy.ask(LDS)
    proxy.ack(LDS)
    proxy.ask(RDS, "r")
    proxy.ack(RDS)
    assert proxy.stream.synced_version == config.resource_version
    return proxy


def test_listeners_wait_for_clusters_and_their_endpoints() -> None:
    proxy = Proxy(FakeConfig(1, {"a": "1"}))
    assert proxy.ask(CDS) == ["CDS a"]
    assert proxy.ask(LDS) == []
    assert proxy.ack(CDS) == []
    assert proxy.ask(EDS, "a") == ["EDS a"]
    assert proxy.ack(EDS) == ["LDS l"]
    assert proxy.ack(LDS) == []
    assert proxy.stream.synced_version == 0
    assert proxy.ask(RDS, "r") == ["RDS r"]
    assert proxy.ack(RDS) == []
    assert proxy.stream.synced_version == 1


def test_a_switch_of_clusters_is_make_before_break() -> None:
    proxy = settled(FakeConfig(1, {"old": "1"}))
    assert proxy.offer(FakeConfig(2, {"new": "1"}, r={"r": "2"})) == ["CDS new old"]
    assert proxy.ack(CDS) == []
    assert proxy.ask(EDS, "old", "new") == ["EDS new"]
    assert proxy.ack(EDS) == ["RDS r"]
    assert proxy.ack(RDS) == ["CDS new"]
    assert proxy.stream.synced_version == 1
    proxy.ack(CDS)
    proxy.ask(EDS, "new")
    assert proxy.stream.synced_version == 2


def test_old_clusters_stay_while_the_new_routes_are_refused() -> None:
    proxy = settled(FakeConfig(1, {"old": "1"}))
    proxy.offer(FakeConfig(2, {"new": "1"}, r={"r": "2"}))
    proxy.ack(CDS)
    proxy.ask(EDS, "old", "new")
    assert proxy.ack(EDS) == ["RDS r"]
    assert proxy.nack(RDS) == []
    assert proxy.offer(FakeConfig(3, {"new": "1"}, r={"r": "3"})) == ["RDS r"]
    assert proxy.ack(RDS) == ["CDS new"]


def test_routes_are_held_back_when_their_clusters_are_refused() -> None:
    proxy = settled(FakeConfig(1, {"a": "1"}))
    assert proxy.offer(FakeConfig(2, {"a": "1", "b": "1"}, r={"r": "2"})) == ["CDS a b"]
    assert proxy.nack(CDS) == []
    assert proxy.offer(FakeConfig(3, {"a": "1"}, r={"r": "3"})) == ["CDS a"]
    assert proxy.ack(CDS) == ["RDS r"]


def test_a_refused_version_is_not_sent_again_until_it_changes() -> None:
    proxy = settled(FakeConfig(1, {"a": "1"}))
    proxy.offer(FakeConfig(2, {"a": "bad"}))
    proxy.nack(CDS)
    proxy.ack(EDS)
    assert proxy.offer(FakeConfig(3, {"a": "bad"})) == []
    assert proxy.offer(FakeConfig(4, {"a": "good"})) == ["CDS a", "EDS a"]


def test_what_a_proxy_had_before_a_refusal_is_sent_again() -> None:
    """Envoy keeps the good members of a set that it refuses: of "a" here it has the second, waiting for endpoints."""
    proxy = settled(FakeConfig(1, {"a": "1"}))
    proxy.offer(FakeConfig(2, {"a": "2", "b": "bad"}))
    proxy.nack(CDS)
    proxy.ack(EDS)
    assert proxy.offer(FakeConfig(3, {"a": "1"})) == ["CDS a", "EDS a"]
    proxy.ack(EDS)
    assert proxy.stream.synced_version == 1
    proxy.ack(CDS)
    assert not proxy.stream.nacks
    assert proxy.stream.synced_version == 3


def test_a_refusal_that_comes_after_the_way_back_was_offered_does_not_stand() -> None:
    proxy = settled(FakeConfig(1, {"a": "1"}))
    proxy.offer(FakeConfig(2, {"a": "bad"}))
    proxy.offer(FakeConfig(3, {"a": "1"}))
    proxy.ack(EDS)
    assert proxy.nack(CDS) == ["CDS a", "EDS a"]
    assert not proxy.stream.is_settled
    proxy.ack(EDS)
    proxy.ack(CDS)
    assert not proxy.stream.nacks
    assert proxy.stream.synced_version == 3


def test_the_very_first_refusal_does_not_leave_a_proxy_without_listeners() -> None:
    proxy = Proxy(FakeConfig(1, {"a": "1"}))
    proxy.ask(CDS)
    proxy.nack(CDS)
    assert proxy.ask(LDS) == ["LDS l"]


def test_a_refused_removal_of_clusters_is_not_tried_for_ever() -> None:
    proxy = settled(FakeConfig(1, {"old": "1"}))
    assert proxy.offer(FakeConfig(2, {})) == ["CDS"]
    assert proxy.nack(CDS) == []
    assert proxy.offer(FakeConfig(3, {})) == []


def test_a_refusal_of_what_is_gone_holds_up_nothing() -> None:
    proxy = Proxy(FakeConfig(1, {"a": "1"}))
    proxy.ask(CDS)
    proxy.ack(CDS)
    proxy.ask(EDS, "a")
    proxy.nack(EDS)
    assert proxy.offer(FakeConfig(2, {"b": "1"})) == ["CDS a b"]
    proxy.ack(CDS)
    proxy.ask(EDS, "a", "b")
    assert proxy.ack(EDS) == ["CDS b"]
    assert not proxy.stream.nacks


def test_clusters_that_only_go_are_not_sent_beside_the_rest_first() -> None:
    """Split over layers, what is wanted and what is going come to what the proxy has already."""
    proxy = settled(FakeConfig(1, {"a": "1", "old": "1"}))
    assert proxy.offer(FakeConfig(2, {"a": "1"}, r={"r": "2"})) == ["RDS r"]
    assert proxy.ack(RDS) == ["CDS a"]


def test_a_going_cluster_keeps_its_endpoints() -> None:
    proxy = settled(FakeConfig(1, {"old": "1"}))
    sent = proxy.offer(FakeConfig(2, {"new": "1"}, r={"r": "2"}))
    assert not any(note.startswith("EDS") for note in sent)


def test_endpoints_alone_are_sent_for_those_touched() -> None:
    proxy = settled(FakeConfig(1, {"a": "1", "b": "1"}))
    changed = FakeConfig(2, {"a": "1", "b": "1"}, e={"b": "more"})
    assert proxy.offer(changed, Touched(frozenset({"b"}), routes=False)) == ["EDS b"]
    proxy.ack(EDS)
    assert proxy.stream.synced_version == 2


def test_a_changed_cluster_gets_its_endpoints_again() -> None:
    """Envoy warms a changed cluster until it hears of its endpoints, whatever it knew of the former one."""
    proxy = settled(FakeConfig(1, {"a": "1", "b": "1"}))
    assert proxy.offer(FakeConfig(2, {"a": "2", "b": "1"})) == ["CDS a b", "EDS a"]


def test_the_latest_wins_while_a_proxy_is_slow() -> None:
    proxy = settled(FakeConfig(1, {"a": "1"}))
    assert proxy.offer(FakeConfig(2, {"a": "2"})) == ["CDS a", "EDS a"]
    assert proxy.offer(FakeConfig(3, {"a": "3"})) == []
    assert proxy.offer(FakeConfig(4, {"a": "4"})) == []
    proxy.ack(EDS)
    assert proxy.ack(CDS) == ["CDS a", "EDS a"]
    assert b"4" in proxy.last[CDS].SerializeToString()


def test_an_answer_to_an_older_response_is_passed_over() -> None:
    proxy = settled(FakeConfig(1, {"a": "1"}))
    former = proxy.last[CDS].nonce
    proxy.offer(FakeConfig(2, {"a": "2"}))
    proxy.say(CDS, nonce=former, error="about the former one")
    assert not proxy.stream.nacks
    assert proxy.stream.subscriptions[CDS].in_flight


def test_the_same_content_is_not_sent_again() -> None:
    proxy = settled(FakeConfig(1, {"a": "1"}))
    assert proxy.offer(FakeConfig(2, {"a": "1"})) == []
    assert proxy.stream.synced_version == 2


def test_a_secret_is_sent_whatever_else_is_under_way_and_waited_for() -> None:
    proxy = settled(FakeConfig(1, {"a": "1"}))
    assert proxy.offer(FakeConfig(2, {"a": "2"}, s={"k": "1"})) == ["CDS a", "EDS a"]
    assert proxy.ask(SDS, "k") == ["SDS k"]
    assert proxy.ack(SDS) == []
    proxy.ack(CDS)
    proxy.ack(EDS)
    assert proxy.stream.synced_version == 2
    assert proxy.offer(FakeConfig(3, {"a": "2"}, s={"k": "2"})) == ["SDS k"]
    assert proxy.stream.synced_version == 2
    proxy.ack(SDS)
    assert proxy.stream.synced_version == 3


def test_a_proxy_that_has_yet_to_ask_for_its_secrets_is_not_in_sync() -> None:
    proxy = settled(FakeConfig(1, {"a": "1"}))
    proxy.offer(FakeConfig(2, {"a": "1"}, s={"k": "1"}))
    assert proxy.stream.synced_version == 1


def test_a_reconnecting_proxy_is_answered_whatever_nonce_it_remembers() -> None:
    proxy = Proxy(FakeConfig(1, {"a": "1"}))
    assert proxy.ask(CDS, nonce="41") == ["CDS a"]


def test_a_cluster_that_nobody_knows_gets_no_endpoints_rather_than_silence() -> None:
    proxy = settled(FakeConfig(1, {"a": "1"}))
    assert proxy.ask(EDS, "a", "ghost") == ["EDS ghost"]


def test_clusters_may_be_asked_for_by_name() -> None:
    proxy = Proxy(FakeConfig(1, {"a": "1", "b": "1"}))
    assert proxy.ask(CDS, "b") == ["CDS b"]


def test_types_not_served_are_passed_over() -> None:
    proxy = Proxy(FakeConfig(1, {"a": "1"}))
    request = DiscoveryRequest(type_url="type.googleapis.com/envoy.service.runtime.v3.Runtime")
    assert proxy.stream.request(request, NOW) is None
    assert proxy.sent() == []
