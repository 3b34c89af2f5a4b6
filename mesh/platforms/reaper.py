"""`python -m mesh.platforms.reaper STATE RUN`: ends what is left of a mesh when its node is gone.

Its standard input is a pipe whose other end only the node holds. The kernel closes that end however the node dies,
SIGKILL included, and only then the reaper acts. Standard library alone until then, so that it starts fast and stays
small.
"""

import signal
import sys
from pathlib import Path

from mesh.platforms.leftovers import sweep_run


def main() -> None:
    state, run = Path(sys.argv[1]), sys.argv[2]
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    while sys.stdin.buffer.read(4096):
        continue
    if state.is_dir():
        sweep_run(state, run)


if __name__ == "__main__":
    main()
