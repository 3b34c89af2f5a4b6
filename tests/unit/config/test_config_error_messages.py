"""What a user reads about a bad file, word for word.

`python tests/unit/config/test_config_error_messages.py --update` writes the messages anew; read the difference.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mesh.config.decode import decode_text
from mesh.config.validate import validate

CASES = sorted((Path(__file__).parents[2] / "golden" / "config-errors").glob("*.yaml"))


def messages(case: Path) -> str:
    decoded = decode_text(case.read_text(), case.name)
    problems = [*decoded.problems, *(problem for manifest in decoded.manifests for problem in validate(manifest))]
    return "".join(f"{problem}\n" for problem in sorted(problems, key=lambda problem: problem.line or 0))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_messages_of_a_bad_file(case: Path) -> None:
    assert messages(case) == case.with_suffix(".txt").read_text()


if __name__ == "__main__" and sys.argv[1:] == ["--update"]:
    for path in CASES:
        path.with_suffix(".txt").write_text(messages(path))
