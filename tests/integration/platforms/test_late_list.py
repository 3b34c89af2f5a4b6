"""A list of Pods that is taken before the mesh's pods are written, and arrives after: as on a loaded machine."""

import subprocess
import sys

from meshdrill_command import Meshdrill, shop, until

UP = """
import threading
from mesh.cli.main import main
from mesh.platforms.node import node, watches

class Late(watches.Follower):
    def __init__(self, client, kind, deliver):
        self._early = client.list(kind)  # in the node's loop, so no pod can be written before
        super().__init__(client, kind, deliver)

    def _follow(self):
        if self._kind == "Pod":
            assert not self._early.items
            while len(self._client.list("Pod").items) < 3:
                threading.Event().wait(0.01)
            self._hand_over(watches.Listed("Pod", self._early.items, self._early.resource_version))
        super()._follow()

    def _arrived(self, change):
        super()._arrived(change)
        if self._kind == "Pod" and isinstance(change, watches.Listed):
            print("arrived:", len(change.objects), flush=True)

node.Follower = Late
main()
"""


def test_pods_that_were_written_meanwhile_stay(meshdrill: Meshdrill) -> None:
    file = meshdrill.write("shop.yaml", shop())
    command = meshdrill.command("up", "--port", str(meshdrill.port), "-f", file, "--platform", "process")
    with subprocess.Popen([sys.executable, "-c", UP, *command[3:]], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            arrived = (line for line in process.stdout if line.startswith("arrived:"))
            assert (next(arrived), next(arrived)) == ("arrived: 0\n", "arrived: 3\n")
            until(lambda: meshdrill.get()[0] == 200, "the page is served")
            assert "was deleted" not in (meshdrill.state / "logs" / "node.log").read_text()
        finally:
            process.terminate()
            process.communicate(timeout=30)
