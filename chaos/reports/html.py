"""A run as one self-contained page: verdicts with their figures, and pictures of what happened."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from string import Template

from markupsafe import Markup, escape

from chaos import journal
from chaos.journal import DrillRecord, PhaseRecord
from chaos.reports import pictures, table
from chaos.verdict import Outcome, Scatter, Verdict

PAGE = Template(Path(__file__).with_name("page.html").read_text())
CLASSES = {
    Outcome.HELD: "held",
    Outcome.VIOLATED: "violated",
    Outcome.TOO_FEW: "unknown",
    Outcome.NOT_MEASURED: "unknown",
    Outcome.SKIPPED: "skipped",
}


def write(path: Path, records: Sequence[DrillRecord]) -> None:
    """Writes the page."""
    passed = journal.passed(records)
    path.write_text(
        PAGE.substitute(
            verdict="passed" if passed else "failed",
            heading="Every assertion held" if passed else "Not every assertion held",
            closing=escape(table.closing(records)),
            start=escape(records[0].start[:19].replace("T", " ") if records else ""),
            drills=Markup("\n").join(_drill(record) for record in records),
        ),
        encoding="utf-8",
        errors="replace",
    )


def _drill(record: DrillRecord) -> Markup:
    head = Markup('<section class="drill {0}"><header><h2>{1}</h2><b class="badge">{0}</b></header><p>{2}</p>').format(
        record.result, record.drill.spec.title, record.drill.spec.about
    )
    facts = Markup('<p class="facts">{:.1f} s &middot; seed {} &middot; {}</p>').format(
        record.duration, record.seed, record.drill.name
    )
    phases = Markup("").join(_phase(phase) for phase in record.phases)
    return head + facts + _load(record) + phases + Markup("</section>")


def _load(record: DrillRecord) -> Markup:
    if not record.timeline:
        return Markup("")
    overlays = record.phases[: len(record.drill.spec.phases)]
    bands = [(_epoch(phase.start), _epoch(phase.end), phase.name) for phase in overlays if phase.end]
    picture = Scatter("the load's requests while the drill ran", record.timeline, bands)
    return _picture(picture.title, pictures.draw(picture))


def _phase(phase: PhaseRecord) -> Markup:
    faults = Markup("").join(Markup('<p class="facts">{}</p>').format(text) for text in phase.faults)
    head = Markup("<h3>{}</h3>{}<ol>").format(phase.name, faults)
    foot = Markup("</ol>")
    if phase.recovery_s is not None:
        foot += Markup('<p class="facts">As before {:.2f} s after it was lifted.</p>').format(phase.recovery_s)
    return head + Markup("").join(map(_verdict, phase.verdicts)) + foot


def _verdict(verdict: Verdict) -> Markup:
    item = Markup('<li class="{}"><b>{}</b> <em>{}</em><p>{}</p>').format(
        CLASSES[verdict.outcome], verdict.check, verdict.outcome.value, verdict.detail
    )
    drawn = Markup("").join(_picture(picture.title, pictures.draw(picture)) for picture in verdict.pictures)
    return item + drawn + Markup("</li>")


def _picture(title: str, svg: str) -> Markup:
    # The drawing escapes its own texts.
    return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(Markup(svg), title)  # noqa: S704


def _epoch(stamp: str) -> float:
    return datetime.datetime.fromisoformat(stamp).timestamp()
