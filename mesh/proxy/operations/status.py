"""What the sidecar is doing, as `/ready` and `/server_info` say it."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field


class ServerState(enum.Enum):
    """`envoy.admin.v3.ServerInfo.State`; the value is the gauge `server.state`."""

    LIVE = 0
    DRAINING = 1
    PRE_INITIALIZING = 2
    INITIALIZING = 3


@dataclass(slots=True)
class Status:
    """`is_failing` is `/healthcheck/fail`: the server says DRAINING, and its responses end their connections."""

    state: ServerState = ServerState.PRE_INITIALIZING
    is_failing: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def shown(self) -> ServerState:
        if self.state is ServerState.LIVE and self.is_failing:
            return ServerState.DRAINING
        return self.state

    @property
    def uptime_s(self) -> int:
        return int(time.monotonic() - self.started)
