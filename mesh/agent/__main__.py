"""`python -m mesh.agent proxy sidecar|router`: the command of the `istio-proxy` container."""

import os
import sys

from mesh.agent.agent import Agent
from mesh.agent.report import say
from mesh.agent.settings import SettingsError, read_settings
from mesh.agent.signals import signal_queue


def main() -> int:
    try:
        settings = read_settings(sys.argv[1:], os.environ)
        with signal_queue() as queue:
            return Agent(settings, queue).run()
    except SettingsError as error:
        say("error", str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
