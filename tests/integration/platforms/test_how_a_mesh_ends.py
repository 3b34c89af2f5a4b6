"""However `up` ends, no process of the mesh outlives it."""

import os
import signal
import subprocess

import pytest
from meshdrill_command import Meshdrill, shop, until, workload

from mesh.platforms.process.ledger import start_time


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_everything_down_with_exit_code_0(meshdrill: Meshdrill, sig: signal.Signals) -> None:
    with meshdrill.up_in_front("-f", meshdrill.write("shop.yaml", shop())) as process:
        assert meshdrill.processes()
        process.send_signal(sig)
        assert process.wait(30) == 0
        assert not meshdrill.processes()
    assert not (meshdrill.state / "mesh.json").exists()


def test_nothing_outlives_a_killed_up(meshdrill: Meshdrill) -> None:
    with meshdrill.up_in_front("-f", meshdrill.write("shop.yaml", shop())) as process:
        before = meshdrill.processes()
        assert len(before) > 6
        process.kill()
        until(lambda: not meshdrill.processes(), "every process is gone")
        until(lambda: not [pid for pid in before if start_time(pid) is not None], "every one has ended")


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_an_up_that_was_stopped_while_it_came_up(meshdrill: Meshdrill, sig: signal.Signals) -> None:
    command = meshdrill.command("up", "--port", str(meshdrill.port), "-f", meshdrill.write("shop.yaml", shop()))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until(meshdrill.processes, "the first processes run")
    process.send_signal(sig)
    assert process.wait(30) == (0 if sig is signal.SIGINT else -sig)
    until(lambda: not meshdrill.processes(), "every process is gone")


def test_up_again_after_a_kill_of_everything_that_would_clean_up(meshdrill: Meshdrill) -> None:
    file = meshdrill.write("shop.yaml", shop())
    with meshdrill.up_in_front("-f", file) as process:
        kill_reapers_of(process)
        process.kill()
        process.wait()
    with meshdrill.up_in_front("-f", file):
        assert meshdrill.get()[0] == 200


def kill_reapers_of(process: "subprocess.Popen[str]") -> None:
    command = ["ps", "-o", "pid=,args=", "--ppid", str(process.pid)]
    listing = subprocess.run(command, check=True, capture_output=True, text=True)
    reapers = [int(line.split()[0]) for line in listing.stdout.splitlines() if "mesh.platforms.reaper" in line]
    assert reapers
    for pid in reapers:
        os.kill(pid, signal.SIGKILL)


def test_in_the_background_until_down(meshdrill: Meshdrill) -> None:
    up = meshdrill.up("-d", "-f", meshdrill.write("shop.yaml", shop()))
    assert up.returncode == 0, up.stderr
    assert f"http://127.0.0.1:{meshdrill.port}" in up.stdout
    assert meshdrill.get()[0] == 200
    again = meshdrill.up("-d", "-f", meshdrill.write("shop.yaml", shop()))
    assert again.returncode == 1
    assert "already running" in again.stdout
    down = meshdrill.run("down")
    assert (down.returncode, down.stdout.strip()) == (0, "mesh default is down")
    assert not meshdrill.processes()
    assert "no mesh is running" in meshdrill.run("down").stdout


def test_up_that_is_taken_down_while_coming_up_has_failed(meshdrill: Meshdrill) -> None:
    file = meshdrill.write("web.yaml", workload("web", NEVER_READY="1"))
    command = meshdrill.command("up", "-d", "--port", str(meshdrill.port), "-f", file)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        assert "pods ready" in up.stdout.readline()
        assert meshdrill.run("down").stdout.strip() == "mesh default is down"
        assert up.wait(30) == 1
    assert not meshdrill.processes()


def test_the_same_state_folder_holds_one_mesh_only(meshdrill: Meshdrill) -> None:
    file = meshdrill.write("shop.yaml", shop())
    with meshdrill.up_in_front("-f", file):
        other = Meshdrill(meshdrill.state)
        second = other.up("-f", file)
        assert second.returncode == 1
        assert "already running" in second.stderr
        assert meshdrill.get()[0] == 200
