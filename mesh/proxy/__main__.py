"""`python -m mesh.proxy -c bootstrap.yaml`"""

from __future__ import annotations

import sys

from mesh.proxy import logs
from mesh.proxy.operations import bootstrap, options
from mesh.proxy.operations.process import StartError, run


def main() -> int:
    """Run the sidecar; 0 after an orderly end, 1 with one line on stderr when it cannot start."""
    given = options.parse()
    logs.configure(given.log_level)
    try:
        return run(bootstrap.load(given), given)
    except (bootstrap.BootstrapError, StartError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the one line a user reads
        return 1


if __name__ == "__main__":
    sys.exit(main())
