"""`python -m mesh.platforms.docker.pod_init`: the process of the container that owns a pod's namespaces.

It sets the pod's rules as Istio's init container does, lets go of all privileges, and then makes sockets in the pod's
network for the node: a request over a Unix socket, which no other container of the pod has, is answered with the
descriptor of a socket that is connected or bound (SCM_RIGHTS in unix(7)). Standard library alone, so that it is quick
and small.

With the argument `rules` it sets the rules and ends, with `sockets` it makes sockets and needs no privilege: each half
in a container of its own.
"""

import json
import os
import socket
import subprocess
import sys
import threading

SOCKET = "/run/meshdrill/pod.sock"
VARIABLE = "MESHDRILL_POD"
READY = "ready"
RULES, SOCKETS = "rules", "sockets"

_NOBODY = 65534
_CONNECT_S = 5.0
_MAX_REQUEST = 4096


def main() -> int:
    part = sys.argv[1] if sys.argv[1:] else ""
    try:
        if part != SOCKETS:
            _set_up(**json.loads(os.environ[VARIABLE]))
        if part == RULES:
            return 0
        listening = _listen()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"{error}\n{getattr(error, 'stderr', '') or ''}")
        return 1
    if part != SOCKETS:
        _become_nobody()
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    while True:
        channel, _ = listening.accept()
        threading.Thread(target=_serve, args=(channel,), daemon=True).start()


def _set_up(address: str, rules: str, folders: list[str]) -> None:
    _add_route(address)
    if rules:
        _run(["iptables-restore", "-n"], rules)
    for folder in folders:
        os.chmod(folder, 0o777)  # noqa: S103 - an emptyDir is any user's of the pod, as in Kubernetes


def _add_route(address: str) -> None:
    """A way for addresses beyond the network, which an internal network has not: the kernel looks for one before the
    rules lead a connection to a cluster IP into the sidecar."""
    if _run(["ip", "-4", "route", "show", "default"]).strip():
        return
    links = json.loads(_run(["ip", "-4", "-json", "address", "show", "to", f"{address}/32"]))
    _run(["ip", "-4", "route", "add", "default", "dev", links[0]["ifname"]])


def _run(command: list[str], text: str = "") -> str:
    return subprocess.run(command, input=text, text=True, capture_output=True, check=True).stdout


def _listen() -> socket.socket:
    if os.path.exists(SOCKET):
        os.unlink(SOCKET)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(SOCKET)
    os.chmod(SOCKET, 0o666)  # noqa: S103 - its folder is the node's alone
    listening.listen(128)
    return listening


def _become_nobody() -> None:
    """The kernel drops all capabilities with the uid 0."""
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _serve(channel: socket.socket) -> None:
    with channel:
        try:
            made = _make(json.loads(channel.recv(_MAX_REQUEST)))
        except OSError as error:
            channel.send(json.dumps({"errno": error.errno or 0, "text": str(error)}).encode())
            return
        with made:
            socket.send_fds(channel, [b"{}"], [made.fileno()])


def _make(request: dict[str, list[object]]) -> socket.socket:
    (kind, address), *_ = request.items()
    host, port = str(address[0]), int(str(address[1]))
    if kind == "connect":
        return socket.create_connection((host, port), timeout=_CONNECT_S)
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, port))
    if kind == "tcp":
        made.listen(128)
    return made


if __name__ == "__main__":
    sys.exit(main())
