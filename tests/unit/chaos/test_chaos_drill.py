"""Drill files: what they may say, and what the reader hears who got one wrong."""

from __future__ import annotations

import textwrap

import pytest

from chaos import drill
from chaos.checks import PredictedSplit, Responses
from chaos.decode import duration
from chaos.errors import BadDrill

GOOD = """\
apiVersion: meshdrill.dev/v1alpha1
kind: Drill
metadata: {name: d}
spec:
  title: A drill
  phases:
  - name: one
    checks:
    - responses:
        name: page
        path: /
        expect: {atLeast: 1500ms, contains: [hello]}
    - predictedSplit:
        path: /
        weights: {v1: 1, v2: 1}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(BadDrill) as caught:
        drill.decode(textwrap.dedent(text), "d.yaml")
    return caught.value.problems


def test_a_drill_is_decoded_into_its_types() -> None:
    [decoded] = drill.decode(GOOD, "d.yaml")
    page, split = decoded.spec.phases[0].checks
    assert isinstance(page, Responses)
    assert page.expect.at_least == 1.5
    assert page.expect.contains == ("hello",)
    assert isinstance(split, PredictedSplit)
    assert split.weights == {"v1": 1, "v2": 1}


def test_the_drills_that_come_along_are_valid_and_in_order() -> None:
    assert [d.name for d in drill.built_in()] == [
        "canary-split",
        "fault-injection",
        "mutual-tls",
        "circuit-breaking",
        "network-partition",
    ]
    assert [d.name for d in drill.known()] == [*(d.name for d in drill.built_in()), "database-lost"]


@pytest.mark.parametrize(
    ("wrong", "right", "problem"),
    [
        ("title: A drill", "titel: A drill", "d.yaml:5: $.spec.titel: unknown field (did you mean 'title'?)"),
        ("name: page", "nome: page", "d.yaml:10: $.spec.phases[0].checks[0].responses: the field 'name' is missing"),
        (
            "atLeast: 1500ms",
            "atLeast: 5",
            "d.yaml:12: $.spec.phases[0].checks[0].responses.expect.atLeast: '5' is not a",
        ),
        ("- responses:", "- response:", "d.yaml:9: $.spec.phases[0].checks[0]: exactly one of"),
        ("{v1: 1, v2: 1}", "{v1: 1, v2: x}", "weights.v2: a whole number is wanted"),
        ("{v1: 1, v2: 1}", "{v1: 1}", "weights: at least two versions"),
        ("{v1: 1, v2: 1}", "{v1: 1, v1: 1}", "weights.v1: given twice"),
        ("kind: Drill", "kind: Deployment", "d.yaml:2: $.kind: this is a Deployment, and a Drill is wanted"),
        ("metadata: {name: d}", "metadata: d", "d.yaml:3: $.metadata: a mapping is wanted"),
        ("  - name: one\n", "  - name: one\n    resources: [{kind: X}]\n", "resources[0]: a manifest with"),
        ("{name: d}", "{name: ../d}", "d.yaml:3: $.metadata: '../d' is no name"),
        ("{atLeast: 1500ms,", "{atLeast: 2s, atMost: 1s,", "expect: atMost is not more than atLeast"),
        ("  phases:\n", "  load: {paths: [x]}\n  phases:\n", "$.spec.load: paths are a list"),
    ],
)
def test_a_mistake_is_named_with_line_and_path(wrong: str, right: str, problem: str) -> None:
    assert wrong in GOOD
    assert any(problem in found for found in problems(GOOD.replace(wrong, right))), problems(GOOD.replace(wrong, right))


def test_all_mistakes_are_reported_at_once() -> None:
    text = GOOD.replace("title: A drill", "titel: A drill").replace("atLeast: 1500ms", "atLeast: soon")
    assert len(problems(text)) >= 2


def test_values_are_checked_beside_mistakes_elsewhere() -> None:
    text = GOOD.replace("title: A drill", "titel: A drill").replace("{v1: 1, v2: 1}", "{v1: 0, v2: 0}")
    assert any("weights: at least two versions" in problem for problem in problems(text))


def test_a_manifest_knows_its_place_and_keeps_its_strings() -> None:
    manifest = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {day: 2026-01-01}}"
    [decoded] = drill.decode(
        GOOD.replace("  - name: one\n", f"  - name: one\n    resources:\n    - {manifest}\n"), "d.yaml"
    )
    [laid] = decoded.spec.phases[0].resources
    assert laid.place == "d.yaml:9"
    assert laid["data"]["day"] == "2026-01-01"


def test_a_drill_without_checks_could_not_fail_and_is_refused() -> None:
    assert any(
        "at least one phase with a check" in p for p in problems(GOOD[: GOOD.index("    checks:")] + "    checks: []\n")
    )


@pytest.mark.parametrize("text", ["", "# nothing", "a: [", "- 1"])
def test_what_is_no_drill_is_refused(text: str) -> None:
    assert problems(text)


@pytest.mark.parametrize(("text", "seconds"), [("7s", 7), ("500ms", 0.5), ("1m30s", 90), ("1.5h", 5400)])
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["7", "s", "7 s", "-1s", "1d", ""])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration(text)
