"""Take away what a drill guards, and it fails: by the verdict that should, with all others still given."""

from pathlib import Path
from typing import Any

import pytest
from bookinfo_mesh import Bookinfo, Run, built_in

pytestmark = pytest.mark.bookinfo


def resource(phase: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    [found] = [each for each in phase["resources"] if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    spec: dict[str, Any] = found["spec"]
    return spec


def hurried(phase: dict[str, Any], seconds: int) -> None:
    """What will not come is waited for no longer than that."""
    for check in phase["checks"]:
        [fields] = check.values()
        if {"metricIncrease", "connection", "overflow", "ejection"} & check.keys():
            fields["within"] = f"{seconds}s"


def assert_guarded(run: Run, violated: set[str], held: set[str]) -> None:
    assert run.code == 1, run.output
    outcomes = run.outcomes
    assert {name for name, outcome in outcomes.items() if outcome == "violated"} == violated
    assert {name for name, outcome in outcomes.items() if outcome == "held"} == held | {"every fault undone"}


UNDISTURBED = "users under load see no failure"


def test_canary_split_sees_weights_that_are_not_the_expected_ones(bookinfo: Bookinfo, out: Path) -> None:
    drill = built_in("canary-split")
    ninety, _ = drill["spec"]["phases"]
    first, second = resource(ninety, "VirtualService", "reviews")["http"][0]["route"]
    first["weight"], second["weight"] = 75, 25
    run = bookinfo.changed(drill, out)
    assert_guarded(
        run,
        {"predicted split v1 90 / v2 10", "sampled split v1 90 / v2 10"},
        {"predicted split v1 50 / v2 50", "sampled split v1 50 / v2 50", UNDISTURBED},
    )


def test_fault_injection_sees_that_there_is_no_fault(bookinfo: Bookinfo, out: Path) -> None:
    drill = built_in("fault-injection")
    for phase in drill["spec"]["phases"]:
        del resource(phase, "VirtualService", "ratings")["http"][0]["fault"]
        hurried(phase, 1)
    run = bookinfo.changed(drill, out)
    assert_guarded(
        run,
        {
            "the page gives up on reviews for jason after twice 3 s",
            "the delays were the mesh's doing, one for each try",
            "jason reads that there are no ratings",
            "each abort is counted with flag FI",
        },
        {"others see reviews and stars", UNDISTURBED},
    )


def test_mutual_tls_sees_a_mesh_in_plaintext(bookinfo: Bookinfo, out: Path) -> None:
    drill = built_in("mutual-tls")
    strict = drill["spec"]["phases"][1]
    resource(strict, "PeerAuthentication", "default")["mtls"]["mode"] = "DISABLE"
    hurried(strict, 1)
    run = bookinfo.changed(drill, out)
    apps = ("productpage", "details", "reviews", "ratings")
    lacking = {f"requests reached {name} by mutual TLS" for name in apps}
    refusals = {
        *(f"plaintext is refused at {name}" for name in apps),
        "a client without certificate is refused",
        "a certificate of another authority is refused",
        "an expired certificate is refused",
        "an identity of another trust domain is refused",
    }
    outcomes = run.outcomes
    assert run.code == 1, run.output
    violated = {name for name, outcome in outcomes.items() if outcome == "violated"}
    assert violated == lacking | refusals | {"a workload of the mesh is let in", "none reached an app in plaintext"}
    assert outcomes["the page is whole"] == outcomes[UNDISTURBED] == outcomes["every fault undone"] == "held"


def test_circuit_breaking_sees_a_pool_without_limits(bookinfo: Bookinfo, out: Path) -> None:
    drill = built_in("circuit-breaking")
    overflow = drill["spec"]["phases"].pop(0)
    drill["spec"]["phases"] = [overflow]
    [subset] = resource(overflow, "DestinationRule", "ratings")["subsets"]
    del subset["trafficPolicy"]
    hurried(overflow, 2)
    assert_guarded(
        bookinfo.changed(drill, out),
        {"overflow beyond 1 connection(s) and 1 pending", "each refusal is counted with flag UO"},
        {UNDISTURBED},
    )


def test_circuit_breaking_sees_that_no_outlier_is_ejected(bookinfo: Bookinfo, out: Path) -> None:
    drill = built_in("circuit-breaking")
    ejection = drill["spec"]["phases"].pop(1)
    drill["spec"]["phases"] = [ejection]
    del resource(ejection, "DestinationRule", "ratings")["trafficPolicy"]["outlierDetection"]
    hurried(ejection, 4)
    run = bookinfo.changed(drill, out)
    assert_guarded(run, {"outlier ejection of ratings, v-faulty"}, {UNDISTURBED})
    assert "states seen: closed; expected: closed -> open" in run.output.replace("\n      ", " ")


def test_a_sample_that_is_too_small_is_no_pass(bookinfo: Bookinfo, out: Path) -> None:
    drill = built_in("canary-split")
    drill["spec"]["phases"] = drill["spec"]["phases"][:1]
    [_, sampled] = drill["spec"]["phases"][0]["checks"]
    sampled["sampledSplit"]["requests"] = 100
    run = bookinfo.changed(drill, out)
    assert (run.code, run.outcomes["sampled split v1 90 / v2 10"]) == (1, "too few requests to tell")
    assert "100 requests would miss v2 at 20 %" in run.output
