"""The processes and files behind a `MeshContainer`, from its start to its stop."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from testcontainers.core.exceptions import ContainerStartException

from mesh.cli.errors import Failure
from mesh.cli.tied import TiedMesh
from mesh.client import MeshClient
from mesh.platforms.docker.ownership import Ownership
from mesh.testing.network import MeshNetwork
from mesh.testing.sources import Source, files_of

_VERB_S = 120.0
_UNDOING_S = 60.0


class Running:
    """`state` is the mesh's state folder, which goes with it; `said` is what `meshdrill up` said."""

    def __init__(self, sources: Sequence[Source], options: Sequence[str]) -> None:
        """Raises ContainerStartException with all that was said when it does not come up. Nothing is left then."""
        self.said: list[str] = []
        with contextlib.ExitStack() as opened:
            # The mesh removes it too when it ends: so it is gone even if this process is killed.
            self.state = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="meshdrill-")))
            files = [word for file in files_of(sources, self.state) for word in ("-f", file)]
            self._tied = TiedMesh(self.state, [*files, *options], stderr=subprocess.STDOUT)
            opened.callback(self._end)
            try:
                self._tied.await_ready(self.said.append)
            except Failure as error:
                raise ContainerStartException("".join([*self.said, str(error)])) from error
            self.client = opened.enter_context(MeshClient.from_state(self.state))
            self._opened = opened.pop_all()
        self._network: MeshNetwork | None = None

    @property
    def is_up(self) -> bool:
        return self._tied.is_running

    @property
    def network(self) -> MeshNetwork:
        """Of the docker platform alone."""
        if self._network is None:
            self._network = self._opened.enter_context(contextlib.closing(MeshNetwork(Ownership.of(self.state).name())))
        return self._network

    def meshdrill(self, *words: str, within_s: float = _VERB_S) -> "subprocess.CompletedProcess[str]":
        """The command on this mesh, to its end; what it said is all in `stdout`. Raises TimeoutExpired."""
        command = [sys.executable, "-m", "mesh.cli.main", *words, "--state", str(self.state)]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                output, _ = process.communicate(timeout=within_s)
            except BaseException:
                # A drill lifts its faults before it ends.
                process.terminate()
                try:
                    process.communicate(timeout=_UNDOING_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, output)

    def do(self, *words: str) -> None:
        """The command on this mesh. Raises Failure with what it said when it fails."""
        done = self.meshdrill(*words)
        if done.returncode != 0:
            raise Failure(done.stdout.strip().removeprefix("Error: "))

    def close(self) -> None:
        """Returns when nothing of the mesh is left. Raises Failure when something stays."""
        self._opened.close()

    def _end(self) -> None:
        # One that was killed has left what its own reaper is still about to remove.
        if self._tied.end() != 0:
            self.do("down")
