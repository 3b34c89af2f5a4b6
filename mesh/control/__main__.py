"""`python -m mesh.control`."""

from __future__ import annotations

import logging
import sys

import uvloop

from mesh.ca.errors import CaError
from mesh.config.problems import ConfigError
from mesh.control.app import run
from mesh.control.errors import SetupError
from mesh.control.options import parse_options


def main() -> int:
    """The exit code: 0 after a stop that was asked for, 1 when it could not start."""
    options = parse_options()
    logging.basicConfig(
        level=options.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        uvloop.run(run(options))
    except (SetupError, CaError, ConfigError) as error:
        sys.stderr.write(f"mesh.control: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
