"""Samples into medians, a table, a JSON file and the marked part of a document."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.documents import markdown, write_between
from benchmarks.interpreter import Interpreter
from benchmarks.scenarios import PACED, SCENARIOS

# Under this share of its core a proxy waited for the load or for its core: compare its CPU per request, not its rate.
SATURATED = 0.9
# Above this share of the proxies' core for other work, what else runs decides the rates.
QUIET = 0.05


@dataclass(frozen=True)
class Sample:
    """One measurement: requests/s, failed requests, CPU microseconds a request, shares of the core, latency, memory."""

    engine: str
    scenario: str
    rate: float
    failures: int
    cpu_us: float
    busy: float
    foreign: float
    p50_ms: float
    p99_ms: float
    memory_mib: float


@dataclass(frozen=True)
class Run:
    """All samples of a run and what they were taken with."""

    tool: str
    direct_rate: float
    rounds: int
    seconds: float
    connections: int
    samples: list[Sample]
    python: Interpreter  # that ran our sidecar

    def scenarios(self) -> list[str]:
        return list(dict.fromkeys(sample.scenario for sample in self.samples))

    def medians(self, engine: str, scenario: str) -> dict[str, float]:
        """The median of each figure over the rounds."""
        rounds = [asdict(one) for one in self.samples if (one.engine, one.scenario) == (engine, scenario)]
        figures = ("rate", "failures", "cpu_us", "busy", "foreign", "p50_ms", "p99_ms", "memory_mib")
        return {figure: median(one[figure] for one in rounds) for figure in figures}

    def ratio(self, scenario: str) -> float:
        """Our median rate over Envoy's; of `paced`, where the rates are the same, Envoy's p99 over ours."""
        ours, theirs = self.medians("meshdrill", scenario), self.medians("envoy", scenario)
        return theirs["p99_ms"] / ours["p99_ms"] if scenario == PACED else ours["rate"] / theirs["rate"]

    def cpu_ratio(self, scenario: str) -> float:
        """Envoy's median CPU per request over ours, so that more than 1 is to our favour here too."""
        return self.medians("envoy", scenario)["cpu_us"] / self.medians("meshdrill", scenario)["cpu_us"]


def line(number: int, sample: Sample) -> str:
    """One sample for the terminal."""
    failed = f", {sample.failures} FAILED" if sample.failures else ""
    return (
        f"round {number + 1} {sample.scenario:9} {sample.engine:10} {sample.rate:9,.0f}/s "
        f"{sample.cpu_us:7.1f} us CPU, {sample.busy:4.0%} busy, {sample.foreign:4.0%} foreign, "
        f"p99 {sample.p99_ms:.2f} ms{failed}"
    )


def table(run: Run) -> str:
    """The medians as a Markdown table."""
    head = [
        "Scenario",
        "Engine",
        "Requests/s",
        "CPU/request",
        "Core busy",
        "p50",
        "p99",
        "Memory",
        "Failed",
        "Ratio",
        "Bar",
        "CPU ratio",
    ]
    rows = [head, ["---", "---", *["---:"] * 10]]
    for scenario in run.scenarios():
        for engine in ("meshdrill", "envoy"):
            figures = run.medians(engine, scenario)
            ours = engine == "meshdrill"
            rows.append(
                [
                    scenario if ours else "",
                    engine,
                    f"{figures['rate']:,.0f}",
                    f"{figures['cpu_us']:.1f} us",
                    f"{figures['busy']:.0%}" + ("" if figures["busy"] >= SATURATED else " (not full)"),
                    f"{figures['p50_ms']:.2f} ms",
                    f"{figures['p99_ms']:.2f} ms",
                    f"{figures['memory_mib']:.0f} MiB",
                    f"{figures['failures']:.0f}",
                    f"**{run.ratio(scenario):.2f}**" if ours else "",
                    _bar(run, scenario) if ours else "",
                    f"{run.cpu_ratio(scenario):.2f}" if ours else "",
                ]
            )
    return markdown(rows)


def _bar(run: Run, scenario: str) -> str:
    bar = SCENARIOS[scenario].bar
    return f"{bar:g} {'held' if run.ratio(scenario) >= bar else 'missed'}" if bar else ""


def note(run: Run) -> str:
    """What the table was taken with, and whether to trust its rates."""
    foreign = median(sample.foreign for sample in run.samples)
    text = (
        f"Medians of {run.rounds} rounds of {run.seconds} s, {run.connections} connections, {run.tool}; the upstream "
        f"by itself answers {run.direct_rate:,.0f} requests/s. Our sidecar ran on {run.python}. Other work took "
        f"{foreign:.0%} of the proxies' core."
    )
    if foreign > QUIET:
        text += " **The machine was not quiet: compare the CPU per request, not the rates.**"
    return text


def save(run: Run, folder: Path) -> Path:
    """The whole run as JSON, with the machine it was taken on."""
    folder.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = folder / f"proxy-{now:%Y%m%d-%H%M%S}.json"
    machine = {"cores": os.cpu_count(), "machine": platform.machine()}
    record = {"time": now.isoformat(), "machine": machine, **asdict(run), "python": run.python.record()}
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def write(run: Run, document: Path) -> None:
    """Put the table between the document's markers."""
    write_between(document, "proxy", table(run), note(run))
