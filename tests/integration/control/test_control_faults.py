"""Faults as overlays with a lease: laid, renewed, lifted, and lifted by themselves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from control_process import PATIENCE_S, ControlProcess, Manifest, subset_of, virtual_service

from mesh.client import ApiError, Event, FaultLost, MeshClient


def expires_at(client: MeshClient, name: str) -> datetime:
    return datetime.fromisoformat(client.get("Fault", name)["status"]["expiresAt"])


def fault(name: str, lease_s: int, *resources: Manifest) -> Manifest:
    return {
        "apiVersion": "meshdrill.dev/v1alpha1",
        "kind": "Fault",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"leaseSeconds": lease_s, "resources": list(resources)},
    }


def first(events: Iterator[Event], kind: str, name: str) -> Event:
    """The first event of that type and name; the test's own time limit bounds the wait."""
    return next(event for event in events if (event.type, event.object["metadata"]["name"]) == (kind, name))


def test_lies_over_the_configuration_while_its_block_runs(client: MeshClient) -> None:
    client.apply(virtual_service("split", "v1"))
    client.apply(virtual_service("hidden"))
    with client.fault("split-v2", [virtual_service("split", "v2")], [virtual_service("hidden")]):
        assert subset_of(client.get("vs", "split")) == "v2"
        names = {item["metadata"]["name"] for item in client.list("vs", "default").items}
        assert "hidden" not in names
        with pytest.raises(ApiError):
            client.get("vs", "hidden")
    assert subset_of(client.get("vs", "split")) == "v1"
    assert client.get("vs", "hidden")
    assert "split-v2" not in {item["metadata"]["name"] for item in client.list("Fault").items}


def test_never_restores_an_older_copy_over_an_edit(client: MeshClient) -> None:
    client.apply(virtual_service("edited", "v1"))
    with client.fault("over-edit", [virtual_service("edited", "v2")]):
        client.apply(virtual_service("edited", "v3"))
        assert subset_of(client.get("vs", "edited")) == "v2"
    assert subset_of(client.get("vs", "edited")) == "v3"


def test_the_newest_is_on_top_and_they_end_in_any_order(client: MeshClient) -> None:
    client.apply(virtual_service("stacked", "v1"))
    with client.fault("lower", [virtual_service("stacked", "v2")]):
        with client.fault("upper", [virtual_service("stacked", "v3")]) as upper:
            assert subset_of(client.get("vs", "stacked")) == "v3"
            upper.update([virtual_service("stacked", "v4")])
            assert subset_of(client.get("vs", "stacked")) == "v4"
        assert subset_of(client.get("vs", "stacked")) == "v2"
    assert subset_of(client.get("vs", "stacked")) == "v1"


def test_an_exception_lifts_it_too(client: MeshClient) -> None:
    client.apply(virtual_service("raising", "v1"))
    with pytest.raises(ZeroDivisionError), client.fault("raises", [virtual_service("raising", "v2")]):
        _ = 1 / 0
    assert subset_of(client.get("vs", "raising")) == "v1"


def test_one_that_cannot_be_laid_leaves_nothing(client: MeshClient) -> None:
    broken = virtual_service("x") | {"spec": {"hots": ["x"]}}
    with pytest.raises(ApiError) as refused, client.fault("broken", [broken]):
        pytest.fail("the block must not run")
    assert refused.value.status == 422
    assert any("spec.resources[0].spec.hots" in cause.field for cause in refused.value.causes)
    assert "broken" not in {item["metadata"]["name"] for item in client.list("Fault").items}


def test_two_of_a_name_do_not_mix(client: MeshClient) -> None:
    with client.fault("same-name", []), pytest.raises(ApiError) as refused, client.fault("same-name", []):
        pytest.fail("the block must not run")
    assert refused.value.reason == "AlreadyExists"


def test_ends_by_itself_when_nobody_renews_it(client: MeshClient) -> None:
    client.apply(virtual_service("leased", "v1"))
    with client.watch("vs", client.list("vs").resource_version) as watch:
        client.create(fault("unrenewed", 1, virtual_service("leased", "v2")))
        assert subset_of(first(watch, "MODIFIED", "leased").object) == "v2"
        assert subset_of(first(watch, "MODIFIED", "leased").object) == "v1"
    with pytest.raises(ApiError):
        client.get("Fault", "unrenewed")


def test_is_renewed_while_its_block_runs(client: MeshClient) -> None:
    client.apply(virtual_service("renewed", "v1"))
    since = client.list("Fault").resource_version
    with client.watch("Fault", since) as watch, client.fault("renewals", [virtual_service("renewed", "v2")], lease_s=2):
        created = expires_at(client, "renewals")
        later = created
        while (later - created).total_seconds() < 2.5:  # longer than the lease, so it has been renewed in between
            renewed = first(watch, "MODIFIED", "renewals").object
            later = datetime.fromisoformat(renewed["status"]["expiresAt"])
        assert subset_of(client.get("vs", "renewed")) == "v2"
    assert subset_of(client.get("vs", "renewed")) == "v1"


def test_says_so_when_it_was_lost_meanwhile(client: MeshClient) -> None:
    with pytest.raises(FaultLost, match="fault lost ended before its block did"), client.fault("lost"):
        client.delete("Fault", "lost")


def test_the_death_of_the_harness_ends_it(control: ControlProcess, client: MeshClient) -> None:
    client.apply(virtual_service("orphaned", "v1"))
    script = f"""
import pathlib, signal
from mesh.client import MeshClient
client = MeshClient.from_state(pathlib.Path({str(control.state)!r}))
with client.fault("orphan", [{virtual_service("orphaned", "v2")!r}], lease_s=2):
    print("laid", flush=True)
    signal.pause()
"""
    with client.watch("vs", client.list("vs").resource_version) as watch:
        harness = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert harness.stdout is not None
        assert harness.stdout.readline() == b"laid\n"
        assert subset_of(first(watch, "MODIFIED", "orphaned").object) == "v2"
        os.kill(harness.pid, signal.SIGKILL)
        harness.wait(PATIENCE_S)
        harness.stdout.close()
        assert subset_of(first(watch, "MODIFIED", "orphaned").object) == "v1"


def test_outlives_a_killed_control_plane(own_control: ControlProcess) -> None:
    with own_control.client() as client:
        client.apply(virtual_service("through", "v1"))
        with client.fault("through-kill", [virtual_service("through", "v2")], lease_s=30):
            own_control.kill()
            own_control.start().close()
            assert subset_of(client.get("vs", "through")) == "v2"
        assert subset_of(client.get("vs", "through")) == "v1"


def test_a_lease_that_ran_out_while_nobody_ran_is_over_at_the_start(own_control: ControlProcess) -> None:
    with own_control.client() as client:
        client.apply(virtual_service("away", "v1"))
        created = client.create(fault("while-away", 1, virtual_service("away", "v2")))
        own_control.kill()
        over = datetime.fromisoformat(created["status"]["expiresAt"])
        time.sleep(max(0.0, (over - datetime.now(UTC)).total_seconds()))  # the clock itself is what is waited for
        own_control.start().close()
        assert subset_of(client.get("vs", "away")) == "v1"
        assert client.list("Fault").items == []


def test_a_fault_is_json_like_any_object(client: MeshClient) -> None:
    client.create(fault("plain", 60, virtual_service("plain-vs")))
    found = client.get("Fault", "plain")
    assert json.loads(json.dumps(found))["spec"]["leaseSeconds"] == 60
    assert client.get("vs", "plain-vs")["metadata"]["annotations"]["meshdrill.dev/fault"] == "default/plain"
    client.delete("Fault", "plain")
