"""Faults in drill files: what becomes of them, and what they may not say."""

import pytest

from chaos import drill
from chaos.errors import BadDrill
from chaos.in_force import needed
from mesh.config.decode import decode_object
from mesh.config.validate import validate

DRILL = """\
apiVersion: meshdrill.dev/v1alpha1
kind: Drill
metadata: {name: d, namespace: shop}
spec:
  title: A drill
  phases:
  - name: One phase
    faults:
    - FAULT
    checks:
    - responses: {name: page, path: /}
"""
PODS = "selector: {app: ratings}"


def decoded(fault: str) -> drill.Drill:
    [found] = drill.decode(DRILL.replace("FAULT", fault), "d.yaml")
    return found


@pytest.mark.parametrize(
    ("fault", "spec", "title"),
    [
        (
            f"partition: {{{PODS}, target: {{app: reviews}}, direction: both}}",
            {"target": {"matchLabels": {"app": "reviews"}}, "direction": "both", "partition": {}},
            "partition on app=ratings, both ways with app=reviews",
        ),
        (
            f"delay: {{{PODS}, latency: 1s, jitter: 25ms}}",
            {"direction": "to", "delay": {"latency": "1000ms", "jitter": "25ms"}},
            "delay latency 1000ms jitter 25ms on app=ratings, to all pods",
        ),
        (
            f"loss: {{{PODS}, percent: 12.5, direction: from}}",
            {"direction": "from", "loss": {"percent": 12.5}},
            "loss percent 12.5 on app=ratings, from all pods",
        ),
        (
            f"bandwidth: {{{PODS}, rate: 8000}}",
            {"direction": "to", "bandwidth": {"rate": 8000}},
            "bandwidth rate 8000 on app=ratings, to all pods",
        ),
        (f"reset: {{{PODS}}}", {"direction": "to", "reset": {}}, "reset on app=ratings, to all pods"),
        (
            f"dns: {{{PODS}, answer: TIMEOUT, patterns: [a.*, b]}}",
            {"dns": {"answer": "TIMEOUT", "patterns": ["a.*", "b"]}},
            "dns answer TIMEOUT patterns a.*,b on app=ratings",
        ),
        (f"pause: {{{PODS}, container: app}}", {"pause": {"container": "app"}}, "pause container app on app=ratings"),
        (f"kill: {{{PODS}}}", {"kill": {"container": ""}}, "kill on app=ratings"),
    ],
)
def test_each_becomes_a_pod_fault_that_the_mesh_takes(fault: str, spec: dict[str, object], title: str) -> None:
    found = decoded(fault)
    [manifest] = found.resources(0)
    assert manifest["metadata"] == {"name": "d-1-one-phase-1", "namespace": "shop"}
    assert manifest["spec"] == {"selector": {"matchLabels": {"app": "ratings"}}, **spec}
    assert validate(decode_object(manifest)) == ()
    assert found.spec.phases[0].faults[0].title == title
    assert needed([manifest]) == {fault.partition(":")[0]}


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("partition: {selector: {}}", "$.spec.phases[0].faults[0].partition: the selector must select something"),
        (f"delay: {{{PODS}}}", "the field 'latency' is missing"),
        (f"delay: {{{PODS}, latency: 5}}", "'5' is not a duration"),
        (f"loss: {{{PODS}, percent: some}}", "a number is wanted"),
        (f"dns: {{{PODS}, target: {{app: x}}}}", "dns.target: unknown field"),
        (f"partition: {{{PODS}, direction: up}}", "one of to, from, both is wanted"),
        (f"corrupt: {{{PODS}}}", "exactly one of partition, delay, loss, bandwidth, reset, dns, pause, kill is wanted"),
    ],
)
def test_a_mistake_is_named(fault: str, problem: str) -> None:
    with pytest.raises(BadDrill) as caught:
        decoded(fault)
    assert any(problem in found for found in caught.value.problems), caught.value.problems


def test_a_pod_fault_among_the_resources_asks_for_its_capability_too() -> None:
    manifests = [
        {"kind": "PodFault", "spec": {"selector": {}, "target": {}, "direction": "to", "loss": {}}},
        {"kind": "Deployment", "spec": {"replicas": 1}},
    ]
    assert needed(manifests) == {"loss"}
