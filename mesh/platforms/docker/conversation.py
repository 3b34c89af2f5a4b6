"""Questions and answers with a command that runs in a container beside what is there: one line of JSON each."""

import json
from typing import Any

from docker.utils import socket as frames

from mesh.platforms.base import PlatformError
from mesh.platforms.docker.engine import Engine, close

_PATIENCE_S = 20.0


class Conversation:
    """The command finds the end of its standard input when this is closed, or when this process ends. Blocks."""

    def __init__(self, engine: Engine, container: str, command: list[str], *, user: str) -> None:
        """Raises EngineError."""
        made = engine.do(engine.api.exec_create, container, command, stdin=True, user=user)["Id"]
        self._stream: Any = engine.do(engine.api.exec_start, made, socket=True)
        self._stream._sock.settimeout(_PATIENCE_S)
        self._heard = b""

    def ask(self, question: dict[str, object]) -> dict[str, Any]:
        """Raises PlatformError with what the command said instead of an answer."""
        try:
            self._stream._sock.sendall(f"{json.dumps(question)}\n".encode())
            line = self._line()
            answer: dict[str, Any] = json.loads(line)
        except (OSError, ValueError) as error:
            said = self._heard.decode(errors="replace").strip()
            raise PlatformError(f"a command in a container does not answer ({error}): {said}") from error
        return answer

    def close(self) -> None:
        close(self._stream)

    def _line(self) -> bytes:
        while b"\n" not in self._heard:
            _, size = frames.next_frame_header(self._stream._sock)
            if size < 0:
                raise OSError("it has ended")
            self._heard += frames.read_exactly(self._stream._sock, size)
        line, _, self._heard = self._heard.partition(b"\n")
        return line
