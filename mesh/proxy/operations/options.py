"""The command line, with Envoy's names for what Envoy has too."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mesh.proxy import logs


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says, checked."""

    config_path: Path | None
    config_yaml: str | None
    concurrency: int
    log_level: str
    drain_time_s: float
    validate: bool
    service_node: str
    service_cluster: str


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Options from `arguments` (`sys.argv` by default). Wrong ones end the process with code 2."""
    parser = argparse.ArgumentParser(prog="python -m mesh.proxy", description="An Envoy-compatible sidecar.")
    parser.add_argument("-c", "--config-path", type=Path, metavar="FILE", help="Envoy v3 bootstrap, YAML or JSON")
    parser.add_argument("--config-yaml", metavar="YAML", help="bootstrap fields merged over the file's")
    parser.add_argument("--concurrency", type=_at_least_one, default=1, metavar="N", help="worker processes (1)")
    parser.add_argument("-l", "--log-level", choices=tuple(logs.LEVELS), default="info", metavar="LEVEL")
    parser.add_argument(
        "--drain-time-s",
        type=_seconds,
        default=5.0,
        metavar="S",
        help="longest wait for requests in flight at exit (5)",
    )
    parser.add_argument("--mode", choices=("serve", "validate"), default="serve", help="validate: check and exit")
    parser.add_argument("--service-node", default="", metavar="ID", help="node.id where the bootstrap has none")
    parser.add_argument(
        "--service-cluster", default="", metavar="NAME", help="node.cluster where the bootstrap has none"
    )
    given = parser.parse_args(arguments)
    if given.config_path is None and given.config_yaml is None:
        parser.error("one of -c/--config-path and --config-yaml is needed")
    return Options(
        config_path=given.config_path,
        config_yaml=given.config_yaml,
        concurrency=given.concurrency,
        log_level=given.log_level,
        drain_time_s=given.drain_time_s,
        validate=given.mode == "validate",
        service_node=given.service_node,
        service_cluster=given.service_cluster,
    )


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds, 0 or more")
    return seconds
