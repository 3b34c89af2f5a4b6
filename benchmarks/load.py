"""The load: wrk for HTTP/1.1, h2load for HTTP/2 and for a fixed rate; without wrk a loader of our own of its kind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
SCRIPTS = Path(__file__).parent / "wrk"
GRPC_MESSAGE = b"\0" + (100).to_bytes(4, "big") + b"m" * 100
GRPC_PATH = "/benchmark.Echo/Unary"
STREAMS = 4  # of one HTTP/2 connection at a time


class LoadFailed(Exception):
    """The load generator is missing or ended with an error; says what it printed."""


@dataclass(frozen=True)
class Load:
    """What is sent: a wrk script's requests, gRPC calls, or else `GET /`; as fast as answered, or at a fixed rate."""

    script: str = ""
    grpc: bool = False
    rate: float = 0.0  # requests/s; 0 is as many as there are answers for


@dataclass(frozen=True)
class Result:
    """What one measurement gave: requests completed, seconds, failures, latency in milliseconds."""

    requests: int
    seconds: float
    failures: int
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def tool(load: Load) -> str:
    """Which load generator this machine has for such a load. Raises LoadFailed."""
    if load.grpc or load.rate:
        if not shutil.which("h2load"):
            raise LoadFailed("h2load is not installed (Debian: nghttp2-client)")
        return "h2load"
    if shutil.which("wrk"):
        return "wrk"
    if load.script:
        raise LoadFailed("wrk is not installed (Debian: wrk)")
    return "benchmarks.loader"


@dataclass(frozen=True)
class Loader:
    """Loads URLs from one core; `folder` is for what a load generator reads and writes."""

    core: int
    folder: Path
    connections: int

    def run(self, url: str, load: Load, seconds: float) -> Result:
        """Load a URL for some seconds. Raises LoadFailed."""
        use = tool(load)
        if use == "h2load":
            return self._h2load(url, load, seconds)
        if use == "wrk":
            script = ["-s", str(SCRIPTS / load.script)] if load.script else []
            command = ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds:g}s", "--latency", *script, url]
        else:
            command = [sys.executable, "-m", "benchmarks.loader", url, str(self.connections), str(seconds)]
        return parse(self._output(command, seconds))

    def _output(self, command: list[str], seconds: float) -> str:
        pinned = ["taskset", "-c", str(self.core), *command]
        done = subprocess.run(pinned, capture_output=True, text=True, check=False, timeout=seconds + 30)
        if done.returncode:
            raise LoadFailed(f"{' '.join(command)} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def _h2load(self, url: str, load: Load, seconds: float) -> Result:
        log = self.folder / "h2load.log"
        log.unlink(missing_ok=True)
        clients = self.connections // STREAMS if load.grpc else self.connections
        command = ["h2load", "-t1", f"-c{clients}", f"-D{seconds:g}", f"--log-file={log}"]
        if load.grpc:
            message = self.folder / "grpc-message"
            message.write_bytes(GRPC_MESSAGE)
            command += [f"-m{STREAMS}", f"-d{message}", "-Hcontent-type: application/grpc", "-Hte: trailers"]
            url = url.rstrip("/") + GRPC_PATH
        else:
            command += ["--h1", "-m1"]
        if load.rate:
            command.append(f"--rps={load.rate / clients:g}")
        text = self._output([*command, url], seconds)
        totals = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded", text)
        assert totals, f"no totals in h2load's report:\n{text}"
        done, succeeded = map(int, totals.groups())
        latencies = [int(line.split("\t")[2]) / 1e3 for line in log.read_text().splitlines()]
        if len(latencies) < 2:
            raise LoadFailed(f"h2load had no answers:\n{text}")
        cuts = quantiles(latencies, n=100)
        return Result(done, seconds, done - succeeded, cuts[49], cuts[98])


def parse(text: str) -> Result:
    """The numbers in wrk's report, which our own loader imitates."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m),", text)
    assert total, f"no totals in the load generator's report:\n{text}"
    failures = sum(int(count) for count in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    if errors := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text):
        failures += sum(map(int, errors.groups()))
    seconds = float(total[2]) * UNITS[total[3]] / 1e3
    return Result(int(total[1]), seconds, failures, percentile(text, "50"), percentile(text, "99"))


def percentile(text: str, which: str) -> float:
    """A line of wrk's latency distribution in milliseconds."""
    found = re.search(rf"^\s*{which}%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    assert found, f"no {which}% in the load generator's report:\n{text}"
    return float(found[1]) * UNITS[found[2]]
