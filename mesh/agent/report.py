"""The agent's own log lines. The logging package would be a tenth of the agent's memory."""

import sys
import time


def say(level: str, message: str) -> None:
    """One line to standard error, which is the container's log."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(f"{stamp}\t{level}\tagent\t{message}\n")
    sys.stderr.flush()
