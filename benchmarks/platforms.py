"""Each platform with each engine: how soon Bookinfo's page is there, and what a pod holds in memory.

    python -m benchmarks.platforms [--write]

Rounds alternate between the platforms and engines, so that what else the machine does meets all of them.
"""

from __future__ import annotations

import json
import os
import platform as machine
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import click

from benchmarks.documents import markdown, write_between
from benchmarks.pods import memory_of_containers, memory_of_processes
from benchmarks.processes import DidNotStart, core_seconds, terminated_as_interrupt
from mesh.client import MeshClient
from mesh.platforms.base import PROXY_CONTAINER, PlatformError
from mesh.platforms.netns.availability import why_not

ROOT = Path(__file__).resolve().parent.parent
PLATFORMS, ENGINES = ("netns", "docker", "process"), ("python", "envoy")
BARS = {"netns": 6.0, "docker": 20.0}
"""Seconds to the first complete page on 2 cores."""

PAGES = 20
"""Fetched before memory is read, so that what is loaded late is there."""

INFRA = "POD"  # the container that owns a pod's network, on docker
QUIET = 0.05
STATE, LOG = "state", "up.log"
_PATIENCE_S = 120.0
_POLL_S = 0.02
_MISSING = "currently unavailable"  # what the page says in place of a part that it did not get


@dataclass(frozen=True)
class Sample:
    """One start: seconds from the command to the first complete page, and MiB, medians over the pods that have an app.
    `foreign` is the share of all cores that other work took just before."""

    platform: str
    engine: str
    page_s: float
    sidecar_mib: float
    app_mib: float
    infra_mib: float
    pod_mib: float
    foreign: float


@contextmanager
def mesh(platform: str, engine: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Bookinfo coming up, with its state in `folder`, and where its page is going to be."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--platform", platform, "--proxy", engine, "--port", str(port), "--state", str(folder / STATE)]
    with (folder / LOG).open("wb") as log:
        up = subprocess.Popen([sys.executable, "-m", "mesh.cli.main", "up", *options], stdout=log, stderr=log)
    try:
        yield up, f"http://127.0.0.1:{port}/productpage"
    finally:
        up.terminate()
        up.wait(_PATIENCE_S)


def measure(platform: str, engine: str) -> Sample:
    """Raises DidNotStart."""
    folder = Path(tempfile.mkdtemp(prefix="meshdrill-"))
    try:
        foreign = busy_share(1.0)
        began = time.monotonic()
        with mesh(platform, engine, folder) as (up, page):
            while not is_complete(page):
                if up.poll() is not None or time.monotonic() > began + _PATIENCE_S:
                    said = (folder / LOG).read_text(errors="replace")[-2000:]
                    raise DidNotStart(f"no page on {platform} with {engine}:\n{said}")
                time.sleep(_POLL_S)
            page_s = time.monotonic() - began
            return Sample(platform, engine, page_s, *memory(platform, folder / STATE, page), foreign)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def memory(platform: str, state: Path, page: str) -> tuple[float, float, float, float]:
    """MiB of sidecar, app, what is beside them, and all of it: medians over the pods that have an app."""
    with MeshClient.from_state(state) as client:
        client.wait_ready(_PATIENCE_S)
        pods = {pod.name for pod in client.pods()}
    for _ in range(PAGES):
        is_complete(page)
    held = memory_of_containers(state, pods) if platform == "docker" else memory_of_processes(state, pods)
    parts = [_parts({container: mib for (name, container), mib in held.items() if name == pod}) for pod in sorted(pods)]
    sidecar, app, infra, pod = (median(part) for part in zip(*(each for each in parts if each[1]), strict=True))
    return sidecar, app, infra, pod


def _parts(held: dict[str, float]) -> tuple[float, float, float, float]:
    sidecar, infra, pod = held.get(PROXY_CONTAINER, 0.0), held.get(INFRA, 0.0), sum(held.values())
    return sidecar, pod - sidecar - infra, infra, pod


def is_complete(page: str) -> bool:
    """Whether the page is there, with all its parts."""
    try:
        with urllib.request.urlopen(page, timeout=10) as answer:
            return _MISSING not in answer.read().decode()
    except OSError:
        return False


def busy_share(seconds: float) -> float:
    """Of all cores, over so many seconds."""
    cores = os.cpu_count() or 1
    before = sum(core_seconds(core) for core in range(cores))
    time.sleep(seconds)
    return (sum(core_seconds(core) for core in range(cores)) - before) / (seconds * cores)


def missing(platform: str) -> str:
    """Why the platform cannot be measured here; nothing if it can. Ask before there are threads."""
    if platform == "netns":
        return why_not()
    if platform == "docker":
        try:
            from mesh.platforms.docker.engine import Engine  # noqa: PLC0415 - takes the docker extra

            Engine().close()
        except PlatformError as error:
            return str(error)
    return ""


def table(samples: list[Sample]) -> str:
    """The medians as a Markdown table."""
    rows = [["Platform", "Engine", "First complete page", "Bar", "Sidecar", "App", "Infra container", "Pod"]]
    rows.append(["---", "---", *["---:"] * 6])
    for platform, engine in dict.fromkeys((sample.platform, sample.engine) for sample in samples):
        rounds = [asdict(each) for each in samples if (each.platform, each.engine) == (platform, engine)]
        page_s = median(each["page_s"] for each in rounds)
        bar = BARS.get(platform)
        held = [median(each[part] for each in rounds) for part in ("sidecar_mib", "app_mib", "infra_mib", "pod_mib")]
        rows.append(
            [
                f"`{platform}`",
                "ours" if engine == "python" else "Envoy",
                f"{page_s:.1f} s",
                f"{bar:g} s {'held' if page_s <= bar else 'missed'}" if bar else "",
                *(f"{mib:.0f} MiB" if mib else "" for mib in held),
            ]
        )
    return markdown(rows)


def note(samples: list[Sample], rounds: int) -> str:
    """What the table was taken with, and whether to trust its times."""
    foreign = median(sample.foreign for sample in samples)
    text = (
        f"Medians of {rounds} starts on {os.cpu_count()} cores, Python {machine.python_version()}, images of `docker` "
        f"built. Memory is the PSS of a container's processes after {PAGES} pages, the median over the pods that have "
        f"an app. Other work took {foreign:.0%} of the cores before each start."
    )
    return text if foreign <= QUIET else f"{text} **The machine was not quiet: the times are too long.**"


def save(samples: list[Sample], folder: Path) -> Path:
    """All samples as JSON."""
    folder.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = folder / f"platforms-{now:%Y%m%d-%H%M%S}.json"
    record = {"time": now.isoformat(), "cores": os.cpu_count(), "samples": [asdict(sample) for sample in samples]}
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def measure_all(platforms: list[str], engines: list[str], rounds: int) -> list[Sample]:
    """Raises DidNotStart."""
    pairs = [(platform, engine) for platform in platforms for engine in engines]
    samples = []
    for number in range(rounds):
        for platform, engine in pairs if number % 2 == 0 else pairs[::-1]:
            samples.append(sample := measure(platform, engine))
            click.echo(
                f"round {number + 1} {platform:8} {engine:7} {sample.page_s:5.1f} s, pod {sample.pod_mib:4.0f} MiB, "
                f"{sample.foreign:4.0%} foreign"
            )
    return sorted(samples, key=lambda sample: pairs.index((sample.platform, sample.engine)))


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Starts of each.")
@click.option("--platform", "platforms", multiple=True, type=click.Choice(PLATFORMS), help="Only these platforms.")
@click.option("--engine", "engines", multiple=True, type=click.Choice(ENGINES), help="Only these engines.")
@click.option("--write", is_flag=True, help="Put the table into docs/platforms.md.")
def main(*, rounds: int, platforms: tuple[str, ...], engines: tuple[str, ...], write: bool) -> None:
    """Measure what each platform takes to come up, and what its pods hold in memory."""
    wanted = []
    for platform in platforms or PLATFORMS:
        if reason := missing(platform):
            click.echo(f"{platform} is left out: {reason}")
        else:
            wanted.append(platform)
    if not wanted:
        raise click.ClickException("no platform is left to be measured")
    with terminated_as_interrupt():
        try:
            samples = measure_all(wanted, list(engines or ENGINES), rounds)
        except (DidNotStart, PermissionError) as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"\n{table(samples)}\n\n{note(samples, rounds)}")
    click.echo(f"\n{save(samples, ROOT / 'results').relative_to(ROOT)}")
    if write:
        write_between(ROOT / "docs" / "platforms.md", "platforms", table(samples), note(samples, rounds))


if __name__ == "__main__":
    main()
