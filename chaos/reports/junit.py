"""The verdicts as a JUnit file: a suite a drill, a case a verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from chaos.journal import DrillRecord
from chaos.verdict import Outcome, Verdict

# XML 1.0 has no way to write these, and a response body in a verdict may hold any of them.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def write(path: Path, records: Sequence[DrillRecord]) -> None:
    """Writes the file; a drill that was interrupted carries an error besides what was judged before."""
    root = ElementTree.Element("testsuites", name="meshdrill")
    for record in records:
        root.append(_suite(record))
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _suite(record: DrillRecord) -> ElementTree.Element:
    suite = ElementTree.Element(
        "testsuite",
        name=record.drill.name,
        # Seconds without an offset is all that the common schemas of JUnit files allow.
        timestamp=record.start[:19],
        time=f"{record.duration:.3f}",
        hostname="localhost",
    )
    for phase in record.phases:
        for verdict in phase.verdicts:
            suite.append(_case(f"{record.drill.name}.{phase.name}", verdict))
    if record.status in ("interrupted", "aborted"):
        case = ElementTree.SubElement(suite, "testcase", classname=record.drill.name, name="runs to its end", time="0")
        ElementTree.SubElement(case, "error", message=record.status)
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(list(suite.iter(tag)))))
    return suite


def _case(classname: str, verdict: Verdict) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase", classname=_text(classname), name=_text(verdict.check), time=f"{verdict.seconds:.3f}"
    )
    properties = ElementTree.SubElement(case, "properties")
    for name, value in verdict.evidence.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        ElementTree.SubElement(properties, "property", name=_text(name), value=_text(text))
    match verdict.outcome:
        case Outcome.HELD:
            ElementTree.SubElement(case, "system-out").text = _text(verdict.detail)
        case Outcome.SKIPPED:
            ElementTree.SubElement(case, "skipped", message=_text(verdict.detail))
        case Outcome.VIOLATED:
            ElementTree.SubElement(case, "failure", message=_text(verdict.detail))
        case Outcome.TOO_FEW | Outcome.NOT_MEASURED:
            ElementTree.SubElement(case, "error", message=_text(f"{verdict.outcome.value}: {verdict.detail}"))
    return case


def _text(text: str) -> str:
    return _UNWRITABLE.sub("\ufffd", text)
