"""Pods in network namespaces of their own, whose kernels hand all traffic to a sidecar, by the rules that Istio sets.

Needs root, `ip` and `iptables-restore`. The sidecars run with Istio's group, whose traffic is let through.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

HOST = "10.77.0.1"
_RULES = """*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p tcp -m multiport --dports 15020,15021,15090 -j RETURN
-A PREROUTING -p tcp -j REDIRECT --to-ports 15006
-A OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A OUTPUT -p tcp -o lo ! -d 127.0.0.1/32 -m owner --gid-owner 1337 -j REDIRECT --to-ports 15006
-A OUTPUT -m owner --gid-owner 1337 -j RETURN
-A OUTPUT -d 127.0.0.0/8 -j RETURN
-A OUTPUT -p tcp -j REDIRECT --to-ports 15001
COMMIT
"""
_APP = """
import http.server, socketserver, sys, threading
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"hello " + self.client_address[0].encode() + b"\\n")
        self.request.sendall(self.request.recv(100))
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{self.client_address[0]} {self.headers['host']}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
for port, handler in ((9080, App), (7000, Echo), (7001, Echo)):
    server = Server(("0.0.0.0", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""
_CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as connection:
    connection.sendall(sys.argv[3].encode())
    try:
        while data := connection.recv(65536):
            sys.stdout.buffer.write(data)
    except ConnectionResetError:
        pass  # one way of saying no
"""


def missing() -> str:
    """What this machine lacks for such pods; empty if nothing."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    absent = [tool for tool in ("ip", "iptables-restore", "setpriv") if shutil.which(tool) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    tried = subprocess.run(["unshare", "-n", "true"], capture_output=True, text=True, check=False)
    return f"network namespaces cannot be made: {tried.stderr.strip()}" if tried.returncode else ""


@dataclass(frozen=True, slots=True)
class Pod:
    """A namespace with one address on a bridge that the host is on too."""

    namespace: str
    address: str

    def run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command in it as an app, to its end."""
        return subprocess.run(self.inside(*command), capture_output=True, timeout=60, check=False)

    def inside(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *command]

    def say(self, address: str, port: int, text: str) -> str:
        """What an app in the pod hears from there after it has said `text`, until the other side has ended."""
        done = self.run(sys.executable, "-c", _CLIENT, address, str(port), text)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def get(self, address: str, port: int, host: str) -> str:
        """Status and body of a request."""
        answer = self.say(address, port, f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
        head, _, body = answer.partition("\r\n\r\n")
        return f"{head.split()[1]} {body}" if head else "closed"


@contextmanager
def pods(count: int) -> Iterator[tuple[Pod, ...]]:
    """Pods at 10.77.0.2 and up; the host is at `HOST`. All is taken down again."""
    with ExitStack() as stack:
        hub = f"mdt{os.getpid()}-hub"
        _namespace(stack, hub)
        _ip(f"netns exec {hub} ip link add br0 type bridge")
        _ip(f"netns exec {hub} ip link set br0 up")
        host = f"mdt{os.getpid()}"
        _ip(f"link add {host} type veth peer name host netns {hub}")
        stack.callback(_ip, f"link delete {host}")
        _ip(f"address add {HOST}/24 dev {host}")
        _ip(f"link set {host} up")
        _join(hub, "host")
        made = []
        for number in range(count):
            pod = Pod(f"mdt{os.getpid()}-{number}", f"10.77.0.{number + 2}")
            _namespace(stack, pod.namespace)
            _ip(f"-n {pod.namespace} link add eth0 type veth peer name pod{number} netns {hub}")
            _ip(f"-n {pod.namespace} address add {pod.address}/24 dev eth0")
            _ip(f"-n {pod.namespace} link set lo up")
            _ip(f"-n {pod.namespace} link set eth0 up")
            _ip(f"-n {pod.namespace} route add default via {HOST}")
            _join(hub, f"pod{number}")
            restore = ["ip", "netns", "exec", pod.namespace, "iptables-restore"]
            subprocess.run(restore, input=_RULES.encode(), check=True, timeout=30)
            made.append(pod)
        yield tuple(made)


@contextmanager
def app(pod: Pod) -> Iterator[None]:
    """An app in the pod: HTTP on 9080, which answers with its peer and the host; on 7000 and 7001 it speaks first."""
    command = pod.inside(sys.executable, "-c", _APP)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.kill()


def _namespace(stack: ExitStack, name: str) -> None:
    _ip(f"netns add {name}")
    stack.callback(_ip, f"netns delete {name}")


def _join(hub: str, link: str) -> None:
    _ip(f"-n {hub} link set {link} master br0")
    _ip(f"-n {hub} link set {link} up")


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True, timeout=30)
