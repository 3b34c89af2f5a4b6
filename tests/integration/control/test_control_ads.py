"""From an edit over the API to the wire and back: what proxies are told, and what is told of them."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from ads_proxy import AdsProxy
from control_process import ControlProcess, pod, service

from mesh.client import ApiError, Credentials, MeshClient

WEB = "spiffe://cluster.local/ns/default/sa/web"
IP = "127.202.1.1"


def outbound(name: str) -> str:
    return f"outbound|9080||{name}.default.svc.cluster.local"


@pytest.fixture
def credentials(client: MeshClient) -> Credentials:
    client.apply(pod("web-1", "web", IP))
    return client.issue_credentials(WEB)


@pytest.fixture
def proxy(control: ControlProcess, credentials: Credentials) -> Iterator[AdsProxy]:
    with AdsProxy(control, credentials, "web-1", IP) as proxy:
        yield proxy


def has(name: str) -> Callable[[frozenset[str]], bool]:
    return lambda clusters: outbound(name) in clusters


def test_an_edit_reaches_the_proxy_and_sync_waits_for_its_word(client: MeshClient, proxy: AdsProxy) -> None:
    client.apply(service("first"))
    proxy.wait_for(has("first"))
    client.wait_synced()
    (status,) = client.proxies()
    assert (status.id, status.address, status.is_synced) == ("web-1.default", IP, True)
    states = {of.type: (of.state, of.error) for of in status.types}
    assert states == dict.fromkeys(("CDS", "EDS", "LDS", "RDS"), ("SYNCED", ""))

    proxy.answering.clear()
    version = client.apply(service("second"))["metadata"]["resourceVersion"]
    proxy.wait_for(has("second"))
    with pytest.raises(ApiError) as late:
        client.wait_synced(version, timeout_s=0.2)
    assert (late.value.status, late.value.reason) == (504, "Timeout")
    assert [cause.field for cause in late.value.causes] == ["web-1.default"]
    proxy.answering.set()
    client.wait_synced(version)
    assert client.control_metrics().value("pilot_xds") == 1
    assert client.control_metrics().value("pilot_xds_pushes", type="CDS") >= 2


def test_a_refusal_is_told_with_its_reason_and_does_not_last(client: MeshClient, proxy: AdsProxy) -> None:
    client.apply(service("steady"))
    proxy.wait_for(has("steady"))
    client.wait_synced()
    proxy.refuses = "I cannot do that"
    version = client.apply(service("refused"))["metadata"]["resourceVersion"]
    with pytest.raises(ApiError) as refused:
        client.wait_synced(version)
    assert (refused.value.status, refused.value.reason) == (409, "Rejected")
    assert [(cause.field, cause.message) for cause in refused.value.causes] == [
        ("web-1.default CDS", "I cannot do that")
    ]
    (status,) = client.proxies()
    assert [(of.state, of.error) for of in status.types if of.type == "CDS"] == [("NACK", "I cannot do that")]
    proxy.refuses = ""
    client.delete("svc", "refused")
    client.wait_synced(client.apply(service("taken"))["metadata"]["resourceVersion"])


def test_an_edit_that_nobody_sees_is_in_sync_too(client: MeshClient, proxy: AdsProxy) -> None:
    client.apply(service("covered"))
    proxy.wait_for(has("covered"))
    client.wait_synced()
    cover = {
        "apiVersion": "meshdrill.dev/v1alpha1",
        "kind": "Fault",
        "metadata": {"name": "cover", "namespace": "default"},
        "spec": {"leaseSeconds": 60, "resources": [service("covered")]},
    }
    client.wait_synced(client.create(cover)["metadata"]["resourceVersion"])
    beneath = service("covered")
    beneath["metadata"]["labels"] = {"seen": "no"}
    client.apply(beneath)
    client.wait_synced()
    client.delete("Fault", "cover")


def test_a_fault_reaches_the_proxy_and_leaves_it(client: MeshClient, proxy: AdsProxy) -> None:
    client.apply(service("stays"))
    proxy.wait_for(has("stays"))
    client.wait_synced()
    fault = {
        "apiVersion": "meshdrill.dev/v1alpha1",
        "kind": "Fault",
        "metadata": {"name": "short", "namespace": "default"},
        "spec": {"leaseSeconds": 1, "resources": [service("ghost")]},
    }
    client.create(fault)
    proxy.wait_for(has("ghost"))
    left = proxy.wait_for(lambda clusters: not has("ghost")(clusters))  # its lease, which nobody renews, has ended
    assert outbound("stays") in left


@pytest.mark.parametrize(
    "identity", ["spiffe://cluster.local/ns/default/sa/other", "spiffe://cluster.local/ns/other/sa/web"]
)
def test_a_node_is_whom_its_certificate_names(
    control: ControlProcess, client: MeshClient, credentials: Credentials, identity: str
) -> None:
    with AdsProxy(control, client.issue_credentials(identity), "web-1", IP) as imposter:
        assert imposter.wait_ended() is grpc.StatusCode.PERMISSION_DENIED


def test_an_expired_or_foreign_certificate_is_not_let_in(
    control: ControlProcess, client: MeshClient, credentials: Credentials
) -> None:
    over = datetime.now(UTC) - timedelta(minutes=2)
    expired = client.issue_credentials(WEB, not_before=over - timedelta(hours=1), not_after=over)
    foreign = client.issue_credentials("spiffe://evil.example/ns/default/sa/web")
    with AdsProxy(control, expired, "web-1", IP) as late:
        assert late.wait_ended() is grpc.StatusCode.UNAVAILABLE
    with AdsProxy(control, foreign, "web-1", IP) as stranger:
        assert stranger.wait_ended() is grpc.StatusCode.PERMISSION_DENIED


def test_proxies_come_back_after_kill_minus_nine(own_control: ControlProcess) -> None:
    with own_control.client() as client:
        client.apply_all([service("kept"), pod("web-1", "web", IP)])
        credentials = client.issue_credentials(WEB)
        with AdsProxy(own_control, credentials, "web-1", IP) as proxy:
            before = proxy.wait_for(has("kept"))
            own_control.kill()
            assert proxy.wait_ended() is grpc.StatusCode.UNAVAILABLE
        own_control.start().close()
        with AdsProxy(own_control, credentials, "web-1", IP) as proxy:
            assert proxy.wait_for(has("kept")) == before
            client.wait_synced()
            assert [status.id for status in client.proxies()] == ["web-1.default"]


def test_sigterm_is_a_clean_end_with_a_proxy_connected(own_control: ControlProcess) -> None:
    with own_control.client() as client:
        client.apply_all([service("kept"), pod("web-1", "web", IP)])
        with AdsProxy(own_control, client.issue_credentials(WEB), "web-1", IP) as proxy:
            proxy.wait_for(has("kept"))
            client.wait_synced()
            assert own_control.stop() == 0
            proxy.wait_ended()
    assert "Traceback" not in own_control.log.read_text()
