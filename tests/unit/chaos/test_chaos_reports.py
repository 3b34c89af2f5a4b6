"""Journal, JUnit, page and table of a run that holds every outcome and hostile text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chaos import drill, journal
from chaos.journal import DrillRecord, PhaseRecord
from chaos.reports import html, junit, pictures, table
from chaos.verdict import Outcome, Scatter, Shares, Verdict

HOSTILE = "<script>alert('x')</script> & \x00\x1b[31m \"quoted\" ]]> \ud800"
DRILL = """\
apiVersion: meshdrill.dev/v1alpha1
kind: Drill
metadata: {name: hostile}
spec:
  title: <b>bold</b> & co
  about: a "drill"
  phases:
  - name: one
    checks:
    - responses: {name: page, path: /}
"""
PICTURES = (
    Shares("shares <i>", [("v1 <i>", 0.9, 0.88, (0.85, 0.91))]),
    Scatter("dots <i>", [(1.0, 5.0, "fast <i>"), (2.0, 900.0, "slow")], [(1.2, 1.8, "ejected <i>")]),
)


def record(*outcomes: Outcome, status: str = "completed") -> DrillRecord:
    [decoded] = drill.decode(DRILL, "d.yaml")
    verdicts = [
        Verdict(f"check {HOSTILE}", each, HOSTILE, {"text": HOSTILE, "n": 3}, PICTURES, 0.25) for each in outcomes
    ]
    phase = PhaseRecord(HOSTILE, journal.now(), journal.now(), verdicts, recovery_s=0.5)
    made = DrillRecord(decoded, "5eed", journal.now(), journal.now(), 1.5, phases=[phase])
    made.status = status  # type: ignore[assignment]
    made.timeline = [(1.0, 5.0, HOSTILE)]
    return made


@pytest.mark.parametrize(
    ("outcomes", "status", "result"),
    [
        ([Outcome.HELD, Outcome.HELD], "completed", "passed"),
        ([Outcome.HELD, Outcome.SKIPPED], "completed", "passed"),
        ([Outcome.SKIPPED], "completed", "skipped"),
        ([], "completed", "failed"),
        ([Outcome.HELD, Outcome.VIOLATED], "completed", "failed"),
        ([Outcome.HELD, Outcome.TOO_FEW], "completed", "failed"),
        ([Outcome.HELD, Outcome.NOT_MEASURED], "completed", "failed"),
        ([Outcome.HELD], "interrupted", "failed"),
        ([Outcome.HELD], "failed", "failed"),
        ([Outcome.HELD], "aborted", "failed"),
    ],
)
def test_how_a_drill_ended(outcomes: list[Outcome], status: str, result: str) -> None:
    assert record(*outcomes, status=status).result == result


def test_a_run_passes_when_no_drill_failed_and_one_was_not_skipped() -> None:
    passed, failed, skipped = record(Outcome.HELD), record(Outcome.VIOLATED), record(Outcome.SKIPPED)
    assert journal.passed([passed, skipped])
    assert not journal.passed([passed, failed])
    assert not journal.passed([skipped])
    assert not journal.passed([])


def test_junit_is_valid_xml_and_counts_each_outcome(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    junit.write(path, [record(*Outcome, status="interrupted")])
    [suite] = ElementTree.parse(path).getroot()
    counts = {name: suite.get(name) for name in ("name", "tests", "failures", "errors", "skipped")}
    assert counts == {"name": "hostile", "tests": "6", "failures": "1", "errors": "3", "skipped": "1"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp", ""))
    violated = next(case for case in suite if case.find("failure") is not None)
    assert violated.get("time") == "0.250"
    message = violated.find("failure").get("message", "")  # type: ignore[union-attr]
    assert "<script>" in message
    assert "\x00" not in message
    properties = {each.get("name"): each.get("value") for each in violated.iter("property")}
    assert properties["n"] == "3"


class Page(HTMLParser):
    """What of a page would run, load something, or be shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_self_contained_and_escapes_what_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    records = [record(*Outcome), record(Outcome.SKIPPED)]
    html.write(path, records)
    text = path.read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert all(link.startswith("data:") for link in page.links)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert "<script>alert('x')</script>" in page.text
    assert page.tags.count("svg") == text.count("</svg>") > 0
    assert 'class="badge">skipped' in text
    assert 'class="badge">failed' in text


def test_the_journal_has_every_verdict_with_its_figures(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    journal.write(path, [record(Outcome.HELD, Outcome.VIOLATED)])
    [run] = json.loads(path.read_text())
    assert (run["status"], run["deviated"], run["result"], run["seed"]) == ("completed", True, "failed", "5eed")
    [phase] = run["run"]
    assert phase["recovery_s"] == 0.5
    assert [check["outcome"] for check in phase["checks"]] == ["held", "violated"]
    assert phase["checks"][0]["evidence"]["n"] == 3
    assert [picture["title"] for picture in phase["checks"][0]["pictures"]] == ["shares <i>", "dots <i>"]
    assert not list(tmp_path.glob("*.partial"))


def test_the_table_says_how_each_drill_ended_and_obeys_no_escape_sequence() -> None:
    text = table.render(record(*Outcome), width=100, colour=False)
    assert text.startswith("FAILED  <b>bold</b> & co  (1.5 s)")
    assert "violated: <script>" in text
    assert "\x1b" not in text
    assert table.render(record(Outcome.SKIPPED), width=100, colour=False).startswith("SKIPPED")
    assert table.closing([record(Outcome.HELD), record(Outcome.SKIPPED)]).endswith("skipped: hostile")
    assert table.closing([record(Outcome.HELD)]) == "1 drill, 1 held: all drills passed"


def test_thinning_keeps_the_few_failures_among_many_points() -> None:
    points = [(float(n), 1.0, "fine") for n in range(50_000)] + [(7.0, 9.0, "failed")]
    drawn = pictures.draw(Scatter("many", points))
    assert drawn.count('class="s1"') == 2  # the dot, and its entry in the legend
    assert drawn.count("<circle") < 5000
