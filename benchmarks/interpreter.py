"""Which Python runs our sidecar: the same code costs an optimised interpreter about a fifth less."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

_PATIENCE_S = 20.0
_FLAG = "--enable-optimizations"


@dataclass(frozen=True)
class Interpreter:
    """What an interpreter says of itself. `configured` is what its `configure` was told (sysconfig's CONFIG_ARGS),
    `prefix` where it is installed.
    """

    implementation: str
    version: str
    compiler: str
    configured: str
    prefix: str

    @property
    def build(self) -> str:
        """How it was built. Debian's packages are profiled by rules of their own, which sysconfig does not tell."""
        if _FLAG in self.configured:
            return f"built with {_FLAG}"
        if self.prefix == "/usr":
            return f"as the distribution builds it, which tells of no {_FLAG}"
        return f"built without {_FLAG}"

    def __str__(self) -> str:
        return f"{self.implementation} {self.version}, {self.build}"

    def record(self) -> dict[str, str]:
        """For the file of results."""
        return {**asdict(self), "build": self.build}


class NoPython(Exception):
    """What was named does not run, or is no Python; says what it printed."""


# The program that an interpreter tells of itself with: the fields of `Interpreter`, as JSON.
_QUESTION = """
import json, platform, sys, sysconfig
print(json.dumps({
    "implementation": platform.python_implementation(),
    "version": platform.python_version(),
    "compiler": platform.python_compiler(),
    "configured": sysconfig.get_config_var("CONFIG_ARGS") or "",
    "prefix": sys.base_prefix,
}))
"""


def interpreter(python: Path) -> Interpreter:
    """What this one is. Raises NoPython."""
    try:
        asked = subprocess.run(
            [python, "-c", _QUESTION], capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
        return Interpreter(**json.loads(asked.stdout))
    except subprocess.CalledProcessError as error:
        raise NoPython(f"{python}: {error.stderr.strip() or error}") from error
    except (OSError, subprocess.TimeoutExpired, ValueError, TypeError) as error:
        raise NoPython(f"{python}: {error}") from error
