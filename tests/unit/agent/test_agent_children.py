"""Forked jobs and signals are real here; each test waits for the child's end."""

import json
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.agent.children import ForkedJob
from mesh.agent.secrets import key_pair, trust, write_secret
from mesh.agent.signals import signal_queue
from mesh.client import MeshNotRunning

WAIT_S = 10.0


def ended(job: ForkedJob) -> tuple[int, str]:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if (result := job.poll()) is not None:
            return result
        time.sleep(0.01)
    job.kill()
    pytest.fail("the job does not end")


def test_a_job_answers_from_a_process_of_its_own() -> None:
    code, answer = ended(ForkedJob(lambda: str(os.getpid())))
    assert code == 0
    assert int(answer) != os.getpid()


def _refused() -> str:
    raise MeshNotRunning("the control plane does not answer")


def _mistaken() -> str:
    raise ZeroDivisionError("ours")


@pytest.mark.parametrize(
    ("job", "said", "traceback"),
    [(_refused, "the control plane does not answer", False), (_mistaken, "ZeroDivisionError: ours", True)],
)
def test_a_job_that_fails_says_why(
    job: Callable[[], str], said: str, traceback: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ended(ForkedJob(job)) == (1, "")
    shown = capfd.readouterr().err
    assert said in shown
    assert ("Traceback" in shown) is traceback


def test_a_job_can_be_killed() -> None:
    job = ForkedJob(lambda: str(time.sleep(600)))
    job.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(job.pid, 0)


def test_signals_wait_in_a_queue_and_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        with signal_queue() as queue:
            assert queue.wait(0) == set()
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            assert queue.wait(WAIT_S) == {signal.SIGHUP, signal.SIGTERM}
            assert queue.wait(0) == set()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_end_of_a_child_wakes_the_queue() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        with signal_queue() as queue:
            job = ForkedJob(lambda: "done")
            assert queue.wait(WAIT_S) == {signal.SIGCHLD}
            assert ended(job) == (0, "done")
    finally:
        signal.signal(signal.SIGINT, before)


def test_secrets_are_private_and_in_the_form_that_envoy_reads(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    write_secret(folder, key_pair("KEY", ("LEAF\n", "ISSUER\n")))
    write_secret(folder, trust("ROOT"))
    assert sorted(file.name for file in folder.iterdir()) == ["ROOTCA.json", "default.json"]
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = json.loads((folder / "default.json").read_text())["resources"][0]
    assert secret["@type"].endswith("/envoy.extensions.transport_sockets.tls.v3.Secret")
    assert secret["name"] == "default"
    assert secret["tls_certificate"]["certificate_chain"] == {"inline_string": "LEAF\nISSUER\n"}
    assert secret["tls_certificate"]["private_key"] == {"inline_string": "KEY"}
