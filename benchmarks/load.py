"""The load: wrk where it is installed, else a loader of the same kind (closed loop, fixed connections) in Python."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


class LoadFailed(Exception):
    """The load generator ended with an error; says what it printed."""


@dataclass(frozen=True)
class Load:
    """What one measurement gave: requests completed, seconds, failures, latency in milliseconds."""

    requests: int
    seconds: float
    failures: int
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def tool() -> str:
    """Which load generator this machine has."""
    return "wrk" if shutil.which("wrk") else "benchmarks.loader"


def run(url: str, connections: int, seconds: float, core: int) -> Load:
    """Load a URL from one core for some seconds."""
    pin = ["taskset", "-c", str(core)]
    if tool() == "wrk":
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", url]
    else:
        command = [sys.executable, "-m", "benchmarks.loader", url, str(connections), str(seconds)]
    done = subprocess.run([*pin, *command], capture_output=True, text=True, check=False, timeout=seconds + 30)
    if done.returncode:
        raise LoadFailed(f"{tool()} could not load {url}: {done.stdout}{done.stderr}")
    return parse(done.stdout)


def parse(text: str) -> Load:
    """The numbers in wrk's report, which our own loader imitates."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m),", text)
    assert total, f"no totals in the load generator's report:\n{text}"
    failures = sum(int(count) for count in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    if errors := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text):
        failures += sum(map(int, errors.groups()))
    seconds = float(total[2]) * UNITS[total[3]] / 1e3
    return Load(int(total[1]), seconds, failures, percentile(text, "50"), percentile(text, "99"))


def percentile(text: str, which: str) -> float:
    """A line of wrk's latency distribution in milliseconds."""
    found = re.search(rf"^\s*{which}%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    assert found, f"no {which}% in the load generator's report:\n{text}"
    return float(found[1]) * UNITS[found[2]]
