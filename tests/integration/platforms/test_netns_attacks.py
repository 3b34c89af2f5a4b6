"""What an app tries from its container, in a whole mesh on netns, to get around a sidecar, to be somebody else, or to
read what is the mesh's. Each attempt runs in the app's own container; what must not be had is shown to be there."""

import sys
from collections.abc import Iterator

import pytest
from meshdrill_command import Meshdrill, in_pod, why_no_netns
from scripted_app import Scene, app

SAID = "the app itself"
CONTROL = "10.244.0.1"
ONLY_FRIENDS = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "victim"},
    "spec": {
        "selector": {"matchLabels": {"app": "victim"}},
        "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/default/sa/friend"]}}]}],
    },
}


@pytest.fixture(scope="module", params=["python", pytest.param("envoy", marks=pytest.mark.envoy)])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if reason := why_no_netns():
        pytest.skip(f"no network namespaces: {reason}")
    command = Meshdrill(tmp_path_factory.mktemp("attacks") / "state")
    file = command.write("attacks.yaml", [*app("attacker"), *app("friend"), *app("victim"), ONLY_FRIENDS])
    with command.up_in_front("-f", file, "--proxy", request.param, "--platform", "netns"):
        yield Scene.of(command)
    assert not command.processes()


PORTS = (8000, 9999, 7777, 15000, 15001, 15006, 15020, 15053)
AROUND = """
from concurrent.futures import ThreadPoolExecutor
address, ports = arguments
attempts = {f"tcp {port}": tcp(address, port) for port in ports if port != 8000}
attempts |= {f"http {port}": http(f"http://{address}:{port}/", Host="victim:8000") for port in ports}
attempts |= {f"admin {port}": http(f"http://{address}:{port}/config_dump") for port in ports}
attempts["by name"] = http("http://victim:8000/")
with ThreadPoolExecutor(len(attempts)) as pool:
    found = dict(zip(attempts, pool.map(tried, attempts.values())))
show(found)
"""


def test_no_port_of_another_pod_leads_around_its_sidecar(scene: Scene) -> None:
    victim = scene.pods["victim"].ip
    found = scene.run("attacker", AROUND, victim, PORTS)
    assert found.pop("by name") == found.pop("http 8000") == [403, "RBAC: access denied"]
    leaked = {attempt: said for attempt, said in found.items() if SAID in str(said) or "configs" in str(said)}
    assert leaked == {}
    served = {attempt: said for attempt, said in found.items() if isinstance(said, list) and said[0] < 400}
    assert served == {}
    # All of it is there, for the victim itself and for whom it lets in.
    assert scene.run("friend", 'show(tried(http("http://victim:8000/")))') == [200, SAID]
    for address, port in ((victim, 9999), ("127.0.0.1", 7777)):
        connected = f"import socket; sock = socket.create_connection(('{address}', {port}), 10)"
        code = f"{connected}; sock.sendall(b'?'); print(sock.recv(99).decode())"
        assert in_pod(scene.pid("victim"), sys.executable, "-c", code) == SAID
    code = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:15000/ready').status)"
    assert in_pod(scene.pid("victim"), sys.executable, "-c", code) == "200"


SPOOF = """
victim, control = arguments
IP_FREEBIND, IP_TRANSPARENT, query = 15, 19, bytes.fromhex("000101000001000000000000066661636533000001" "0001")

def bound(option=None):
    def attempt():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            if option:
                sock.setsockopt(socket.SOL_IP, option, 1)
            sock.bind((victim, 0))
            sock.settimeout(1)
            sock.sendto(query, (control, 53))
            return f"heard {sock.recv(100)}"
    return attempt

def connected():
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
        sock.bind((victim, 0))
        sock.settimeout(1)
        sock.connect((control, 15014))
        return "connected"

show({"plain": tried(bound()), "free": tried(bound(IP_FREEBIND)), "transparent": tried(bound(IP_TRANSPARENT)),
    "tcp": tried(connected)})
"""


def test_no_app_speaks_from_the_address_of_another_pod(scene: Scene) -> None:
    found = scene.run("attacker", SPOOF, scene.pods["victim"].ip, CONTROL)
    assert found.pop("plain").startswith("OSError: [Errno 99]")
    assert found.pop("transparent").startswith("PermissionError")
    for said in found.values():
        assert said.startswith(("OSError", "TimeoutError")), found


FORGE = """
import base64, hashlib, hmac, time
from mesh.client.keys import make_key_and_csr
control, pod, uid, identity = arguments
_, csr = make_key_and_csr()
anyone = ssl._create_unverified_context()

def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=")

def token(algorithm, key):
    now = int(time.time())
    claims = {"iss": "meshdrill", "aud": ["meshdrill-ca"], "sub": "system:serviceaccount:default:victim", "iat": now,
        "nbf": now, "exp": now + 3600, "kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "victim"},
        "pod": {"name": pod, "uid": uid}}}
    signed = encoded({"alg": algorithm, "typ": "JWT"}) + b"." + encoded(claims)
    signature = b"" if key is None else hmac.digest(key, signed, hashlib.sha256)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()

def asked(method, path, bearer, body=None):
    def attempt():
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"https://{control}:15014{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, context=anyone, timeout=10) as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code
    return attempt

def ads():
    anyone.set_alpn_protocols(["h2"])
    with socket.create_connection((control, 15012), 10) as sock, anyone.wrap_socket(sock) as tls:
        tls.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes(3) + b"\\x04" + bytes(5))
        return "heard" if tls.recv(100) else "closed"

wish = {"csr": csr, "identity": identity}
tokens = {"none at all": "", "unsigned": token("none", None)}
tokens |= {"empty key": token("HS256", b""), "guess": token("HS256", b"x")}
found = {name: tried(asked("POST", "/meshdrill/v1/certificates", bearer, wish)) for name, bearer in tokens.items()}
found |= {f"pods, {name}": tried(asked("GET", "/api/v1/pods", bearer)) for name, bearer in tokens.items()}
minted = "/api/v1/namespaces/default/serviceaccounts/victim/token"
spec = {"audiences": ["meshdrill-ca"], "expirationSeconds": 3600,
    "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}}
request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
found |= {f"token, {name}": tried(asked("POST", minted, bearer, request)) for name, bearer in tokens.items()}
show([found, tried(ads)])
"""


def test_no_forged_token_gets_another_identity_or_into_the_control_plane(scene: Scene) -> None:
    victim = scene.pods["victim"]
    identity = "spiffe://cluster.local/ns/default/sa/victim"
    codes, ads = scene.run("attacker", FORGE, CONTROL, victim.name, victim.uid, identity)
    assert len(codes) == 12
    assert set(codes.values()) == {401}
    assert "SSLError" in ads or ads.startswith("Connection") or ads == "closed", ads


LOOK = """
import glob
state, pods = arguments
texts, listed = {}, {}
def read(path):
    try:
        with open(path, "rb") as file:
            texts[path] = file.read(200_000).decode(errors="replace")
    except OSError:
        pass

for name in ("environ", "cmdline", "mountinfo"):
    for path in glob.glob(f"/proc/[0-9]*/{name}"):
        read(path)
for root in ("", "/proc/self/root", "/proc/1/root", "/proc/self/cwd/" + "../" * 20, "/proc/1/cwd/" + "../" * 20):
    for folder in (state, state + "/pods", state + "/ca", *(f"{state}/pods/{pod}/secrets" for pod in pods)):
        listed[root + folder] = tried(lambda: os.listdir(root + folder))
        for name in ("token", "key.pem", "default.json", "root-key.pem", "mesh.json", "store.db"):
            read(f"{root}{folder}/{name}")
for port in (15000, 15020, 15090):
    for path in ("config_dump", "certs", "server_info", "stats/prometheus"):
        said = tried(http(f"http://127.0.0.1:{port}/{path}"))
        texts[f"{port}/{path}"] = str(said)
    def all_of(port=port):
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/config_dump?include_eds", timeout=10).read().decode()
    texts[f"{port} whole"] = str(tried(all_of))
for fd in os.listdir("/proc/self/fd"):
    texts[f"fd {fd}"] = str(tried(lambda: os.readlink(f"/proc/self/fd/{fd}")))
show([texts, listed])
"""


def test_no_app_reads_a_key_or_a_token_of_the_mesh(scene: Scene) -> None:
    state = scene.mesh.state
    pods = [pod.name for pod in scene.pods.values()]
    secrets = {path: path.read_text().strip() for path in state.rglob("*") if path.name in {"token", "key.pem"}}
    assert len(secrets) == 1 + 2 * len(pods)
    texts, listed = scene.run("attacker", LOOK, str(state), pods)
    assert len(texts) > 10
    lines = {path: max(text.splitlines(), key=len) for path, text in secrets.items()}
    assert [(path, source) for path, line in lines.items() for source, text in texts.items() if line in text] == []
    assert {str(said) for said in listed.values()} <= {"[]"} | {said for said in listed.values() if "Error" in said}


KERNEL = """
import signal
state, = arguments
SO_MARK, NEWUSER_NEWNS, NEWPID = 36, 0x10020000, 0x20000000

def marked():
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, 1337)

def entered(kind):
    def attempt():
        with open(f"/proc/1/ns/{kind}") as space:
            os.setns(space.fileno()) if hasattr(os, "setns") else called("setns", space.fileno(), 0)()
        return os.listdir(state)
    return attempt

def attempts():
    return {
        "mark": tried(marked),
        "raw": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 6).close()),
        "packet": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3).close()),
        "uncover": tried(called("umount2", state.encode(), 2)),
        "remount": tried(called("mount", b"none", b"/", None, 0x1020, None)),
        "write to /etc": tried(lambda: open("/etc/made-by-a-test", "w").close()),
        "write the program": tried(lambda: open(sys.prefix + "/made-by-a-test", "w").close()),
        "trace": tried(called("ptrace", 16, 1, 0, 0)),
        "memory": tried(lambda: open("/proc/1/mem", "rb").close()),
        "rules": tried(lambda: "done" if subprocess.run(["/usr/sbin/iptables", "-t", "nat", "-F"],
            capture_output=True).returncode == 0 else "OSError"),
        "sysctl": tried(lambda: open("/proc/sys/net/ipv4/ip_forward", "w").write("1")),
        **{f"enter {kind}": tried(entered(kind)) for kind in ("mnt", "net", "pid", "user")},
    }

plain = attempts()
found = {"plain": plain, "pids": sorted(int(pid) for pid in os.listdir("/proc") if pid.isdigit()),
    "sockets": [line.split()[-1] for line in open("/proc/net/unix").read().splitlines()[1:] if "@" in line],
    "fds": [os.readlink(f"/proc/{os.getppid()}/fd/{fd}") for fd in os.listdir(f"/proc/{os.getppid()}/fd")],
    "in /run": os.listdir("/run"), "parents": tried(lambda: os.kill(1, signal.SIGKILL))}
if libc.unshare(NEWUSER_NEWNS | NEWPID) == 0:
    found["with a user namespace of its own"] = attempts()
found["state"] = tried(lambda: os.listdir(state))
show(found)
"""


def test_no_app_has_the_proxys_mark_or_leaves_its_container(scene: Scene) -> None:
    found = scene.run("attacker", KERNEL, str(scene.mesh.state))
    for how in ("plain", "with a user namespace of its own"):
        for attempt, said in found.get(how, {}).items():
            if attempt.startswith("enter "):  # its own, at best
                assert said == [] or "Error" in str(said), (how, attempt, said)
            else:
                assert "Error" in str(said), (how, attempt, said)
    assert found["state"] == found["in /run"] == found["sockets"] == []
    assert len(found["pids"]) <= 4  # the first process, the app, and this attempt
    assert all(fd.startswith(("socket:", "pipe:", "/dev/null", "/")) for fd in found["fds"])
    # It is as it was: the app answers, its traffic is captured.
    assert scene.run("attacker", 'show(tried(http("http://victim:8000/")))') == [403, "RBAC: access denied"]
