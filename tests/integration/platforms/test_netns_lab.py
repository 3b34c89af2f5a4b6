"""Labs of network namespaces: what is captured, what an app cannot do, and that nothing is ever left of one."""

import errno
import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from lab_user import User
from meshdrill_command import until
from outside import Greeter, Threads

from mesh.platforms.netns.way_out import MOST_CONNECTIONS

ALONE = [1, 2]  # the first process of the namespace, and the one that looks


def test_both_captures_know_the_original_destination_and_nothing_else_is_captured(user: User) -> None:
    found = user.run("capture")
    plain, meshed = found["plain"], found["meshed"]
    assert found["inbound"] == [plain, f"{meshed}:9080"]
    assert found["outbound"] == [meshed, f"{plain}:9000"]
    assert found["cluster address"] == [meshed, "10.96.0.7:80"]
    assert found["by the proxy"] == meshed
    assert found["by the proxy to its own pod"] == [meshed, f"{meshed}:9000"]
    assert found["app to itself"] == meshed
    assert found["from the passthrough address"] == "127.0.0.6"
    assert found["excluded"] == found["readiness"] == plain


def test_a_pod_cannot_speak_from_another_ones_address(user: User) -> None:
    found = user.run("spoof")
    assert found["heard"] == found["from"] == found["liar"]


def test_an_app_can_do_none_of_what_would_lead_it_around_its_sidecar(user: User) -> None:
    found = user.run("isolation", str(user.folder / "state"))
    app = found["app"]
    for attempt in ("sets the mark", "opens a raw socket", "writes a sysctl", "writes the program"):
        assert app[attempt].startswith(("PermissionError", "OSError: [Errno 30]")), attempt
    assert app["sees in the state"] == []
    assert app["reads the token"].startswith("FileNotFoundError")
    without_capabilities, with_its_own = app["uncovers the state"]
    assert without_capabilities.startswith("PermissionError")
    assert with_its_own.startswith("OSError: [Errno 22]")  # umount(2): the mount is locked
    assert app["sees processes"] == ALONE
    assert app["signals the proxy"].startswith("ProcessLookupError")
    assert app["traces the proxy"].startswith("ProcessLookupError")
    assert all(each.startswith("PermissionError") for each in app["looks into the first process"])
    assert app["changes the rules"].startswith("exit code")
    assert app["takes another address"].startswith("exit code")
    assert app["sees in /run"] == []
    assert set(app["sees in /dev"]) <= {
        *("fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero")
    }
    assert {int(each, 16) for each in app["capabilities"]} == {0}


def test_an_app_has_what_it_needs(user: User) -> None:
    app = user.run("isolation", str(user.folder / "state"))["app"]
    assert app["writes its folder"] == "done"
    assert app["its name"] == "web"
    assert app["its resolver"] == "nameserver 192.0.2.1\n"


def test_a_proxy_may_mark_and_sees_of_the_state_its_own_folder_alone(user: User) -> None:
    found = user.run("isolation", str(user.folder / "state"))
    assert found["proxy"] == {"sees": ["pods"], "reads": "secret", "pid": 2}
    assert found["joined"][0] == "secret"
    assert int(found["joined"][1]) > len(ALONE)  # a command beside it is in its namespaces
    assert found["proxy ended by"] == signal.SIGTERM


def test_volumes_are_seen_where_the_host_has_no_such_place_and_the_host_is_not_touched(user: User) -> None:
    found = user.run("volumes", str(user.folder / "state"))
    assert set(found["reads"].values()) == {"red"}
    assert len(found["reads"]) == 4
    assert set(found["writes"].values()) == {f"OSError{errno.EROFS}"}
    assert (found["shares"], found["told"], found["joined"]) == ("done", "told", "red")
    assert found["sees in the state"] == []
    assert found["writes its folder"] == "done"
    assert found["makes at the top"] == f"OSError{errno.EROFS}"
    assert found["roots"] == found["roots of the host"]
    assert found["etc"] == [True, True]
    assert found["resolver"] == "nameserver 192.0.2.1\n"
    assert found["mounted below /dev"] == []
    assert found["left"] == []


def test_names_resolve_in_a_pod_over_udp_and_tcp(user: User) -> None:
    found = user.run("names", str(user.folder / "state"))
    assert found["reviews"] == found["reviews.default"] == ["10.96.0.7"]
    assert found["reviews.default.svc.cluster.local"] == ["10.96.0.7"]
    assert found["many"] == 100  # too many for a datagram
    assert found["nowhere"] == socket.EAI_NONAME
    assert "127.0.0.1" in found["localhost"]


def test_a_port_of_the_host_leads_into_a_pod_until_the_lab_is_told_to_stop(user: User) -> None:
    process = user.begin("forward")
    assert process.stdout is not None
    with process, process.stdout:
        told = json.loads(process.stdout.readline())
        for size in (1, 3_000_000):
            with socket.create_connection(("127.0.0.1", told["port"]), timeout=10) as sock:
                sock.sendall(b"x" * size)
                sock.shutdown(socket.SHUT_WR)
                assert sock.makefile().read() == str(size)
        process.send_signal(signal.SIGTERM)
        assert json.loads(process.stdout.readline()) == {"stopped": True}
        assert process.wait(20) == 0


def test_pods_reach_those_ports_of_the_host_that_are_listed_and_nothing_else(user: User) -> None:
    with Threads(("127.0.0.1", 0), Greeter) as server, socket.socket() as silent, socket.socket() as unlisted:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for sock in (silent, unlisted):
            sock.bind(("127.0.0.1", 0))
        unlisted.listen()
        unlisted.setblocking(False)
        ports = [server.server_address[1], silent.getsockname()[1], unlisted.getsockname()[1]]
        found = user.run("way_out", ",".join(map(str, ports)))
        assert found == {
            "served": "hello 3000000",
            "silent": "closed",
            "unlisted": "ConnectionRefusedError",
            "at the node": "ConnectionRefusedError",
            "many": [MOST_CONNECTIONS, MOST_CONNECTIONS + 20],
            "asked for": "[Errno 13] Permission denied",
        }
        with pytest.raises(BlockingIOError):
            unlisted.accept()
        server.shutdown()


def test_the_parent_ends_as_the_session_does(user: User) -> None:
    done = subprocess.run(user.of("exit_code", "7"), env=user.environment, timeout=30, check=False)
    assert done.returncode == 7


@pytest.mark.parametrize("victim", ["parent", "keeper", "session"])
def test_whichever_process_is_killed_nothing_is_left(user: User, victim: str) -> None:
    process = user.begin("stay", str(user.folder / "state"))
    assert process.stdout is not None
    with process, process.stdout:
        told = json.loads(process.stdout.readline())
        members = processes_in(told)
        assert len(members) >= 8  # three pods of three each at least, but for those that have not come up yet
        keeper = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        session = max(members, key=lambda pid: (os.readlink(f"/proc/{pid}/ns/net") == told["net"], -pid))
        os.kill({"parent": process.pid, "keeper": keeper, "session": session}[victim], signal.SIGKILL)
        process.wait(20)
        until(lambda: not processes_in(told), "the lab's processes are gone")
    mine = os.readlink("/proc/self/ns/net")
    assert mine != told["net"]
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in links.splitlines() if line.startswith("pod")]


def processes_in(lab: dict[str, str]) -> set[int]:
    """All in the lab's pid namespace or one below it: they are told by not being in ours, and by its network."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            spaces = {os.readlink(folder / "ns" / "net"), os.readlink(folder / "ns" / "pid")}
            is_below = lab["pid"] in _ancestors(int(folder.name), lab["pid"])
        except OSError:
            continue
        if spaces & {lab["net"], lab["pid"]} or is_below:
            found.add(int(folder.name))
    return found


def _ancestors(pid: int, wanted: str) -> set[str]:
    """Pid namespaces of the process and of whose child it is, up to `wanted`."""
    found = set()
    while pid > 1 and wanted not in found:
        found.add(os.readlink(f"/proc/{pid}/ns/pid"))
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
    return found
