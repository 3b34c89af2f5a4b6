"""The agent's loop: one thread, waiting for the next signal or the next thing due."""

import json
import os
import random
import subprocess
import time
from functools import partial
from pathlib import Path
from signal import Signals

from mesh.agent import engines
from mesh.agent.bootstrap import bootstrap
from mesh.agent.children import ForkedJob, start_proxy
from mesh.agent.grpc_bootstrap import grpc_bootstrap
from mesh.agent.report import say
from mesh.agent.schedule import Restarts, Retry, renewal_in_s
from mesh.agent.secrets import write_private
from mesh.agent.settings import BOOTSTRAP, GRPC_BOOTSTRAP, TELEMETRY_PIPE, Settings
from mesh.agent.signals import SignalQueue

_NEVER = float("inf")


class Agent:
    """One pod's identity and proxy. `run` returns the agent's exit code."""

    def __init__(self, settings: Settings, queue: SignalQueue) -> None:
        self._settings = settings
        self._queue = queue
        self._command = engines.command(settings)
        self._rng = random.Random()
        self._retry = Retry(self._rng)
        self._restarts = Restarts()
        self._enrolment: ForkedJob | None = None
        self._enrol_again = False
        self._enrol_at = 0.0
        self._proxy: subprocess.Popen[bytes] | None = None
        self._proxy_started = 0.0
        self._proxy_at = _NEVER
        self._telemetry: ForkedJob | None = None

    def run(self) -> int:
        write_private(BOOTSTRAP, json.dumps(bootstrap(self._settings), indent=1))
        write_private(GRPC_BOOTSTRAP, json.dumps(grpc_bootstrap(self._settings, Path.cwd()), indent=1))
        if self._settings.engine == "envoy":
            self._start_telemetry()
        while True:
            self._start_what_is_due()
            signals = self._queue.wait(self._idle_s())
            if signals & {Signals.SIGTERM, Signals.SIGINT}:
                return self._end()
            if Signals.SIGHUP in signals:
                self._renew_now()
            if Signals.SIGCHLD in signals:
                code = self._reap()
                if code is not None:
                    return code

    def _idle_s(self) -> float | None:
        due = min(self._enrol_at if self._enrolment is None else _NEVER, self._proxy_at)
        return None if due == _NEVER else max(0.0, due - time.monotonic())

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        if self._enrolment is None and now >= self._enrol_at:
            self._enrolment = ForkedJob(partial(_enrol, self._settings))
        if self._proxy is None and now >= self._proxy_at:
            self._proxy_at = _NEVER
            self._proxy_started = now
            self._proxy = start_proxy(self._command)

    def _renew_now(self) -> None:
        self._enrol_again = self._enrolment is not None
        self._enrol_at = 0.0

    def _reap(self) -> int | None:
        """Looks after every child that may have ended. An exit code when the agent is to give up."""
        self._reap_enrolment()
        if self._telemetry is not None and (ended := self._telemetry.poll()) is not None:
            say("error", f"the metrics process ended with code {ended[0]}; starting it again")
            self._start_telemetry()
        if self._proxy is None or (code := self._proxy.poll()) is None:
            return None
        self._proxy = None
        delay = self._restarts.after(time.monotonic() - self._proxy_started)
        if delay is None:
            say("error", f"the proxy ended with code {code} again and again; giving up")
            return 1
        say("error", f"the proxy ended with code {code}; starting it again in {delay:g} s")
        self._proxy_at = time.monotonic() + delay
        return None

    def _reap_enrolment(self) -> None:
        if self._enrolment is None or (ended := self._enrolment.poll()) is None:
            return
        self._enrolment = None
        code, answer = ended
        if code != 0:
            delay = self._retry.failed()
            say("warning", f"no certificate for {self._settings.identity} yet; next attempt in {delay:.1f} s")
            self._enrol_at = time.monotonic() + delay
            return
        self._retry.succeeded()
        renewal = 0.0 if self._enrol_again else renewal_in_s(float(answer) - time.time(), self._rng)
        self._enrol_again = False
        self._enrol_at = time.monotonic() + renewal
        say("info", f"certificate for {self._settings.identity}; next one in {renewal:.0f} s")
        if self._proxy is None and self._proxy_at == _NEVER:
            self._proxy_at = 0.0

    def _start_telemetry(self) -> None:
        if not TELEMETRY_PIPE.is_fifo():
            os.mkfifo(TELEMETRY_PIPE, 0o600)
        self._telemetry = ForkedJob(partial(_serve_telemetry, self._settings))

    def _end(self) -> int:
        if self._proxy is not None:
            engines.end(self._proxy, self._settings)
        for job in (self._enrolment, self._telemetry):
            if job is not None and job.poll() is None:
                job.kill()
        return 0


def _enrol(settings: Settings) -> str:
    from mesh.agent.enrol import enrol  # noqa: PLC0415 - loaded in the child alone

    return str(enrol(settings))


def _serve_telemetry(settings: Settings) -> str:
    from mesh.agent.telemetry import serve  # noqa: PLC0415 - loaded in the child alone

    serve(settings)
    return ""
