"""What a hostile app tries, as source for `Scene.run`."""

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

SPOOF = """
victim, listener = arguments
IP_FREEBIND, IP_TRANSPARENT = 15, 19

def sent(source, option, text):
    def attempt():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            if option:
                sock.setsockopt(socket.SOL_IP, option, 1)
            sock.bind((source, 0))
            sock.sendto(text.encode(), (listener, 9998))
    return attempt

def connected():
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
        sock.bind((victim, 0))
        sock.settimeout(1)
        sock.connect((control(), 15014))
        return "connected"

def heard():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.sendto(b"?", (listener, 9998))
        return json.loads(sock.recv(65000))

found = {"plain": tried(sent(victim, None, "plain")), "transparent": tried(sent(victim, IP_TRANSPARENT, "transparent")),
    "free": tried(sent(victim, IP_FREEBIND, "free")), "tcp": tried(connected)}
tried(sent("0.0.0.0", None, "honest"))
show([found, heard()])
"""

FORGE = """
import base64, hashlib, hmac, time
import grpc
from envoy.service.discovery.v3.ads_pb2_grpc import AggregatedDiscoveryServiceStub
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest
from mesh.client.keys import make_key_and_csr
own, victim, secrets = arguments
host = control()
_, csr = make_key_and_csr()
anyone = ssl._create_unverified_context()

def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=")

def token(algorithm, key):
    now = int(time.time())
    claims = {"iss": "meshdrill", "aud": ["meshdrill-ca"], "sub": "system:serviceaccount:default:victim", "iat": now,
        "nbf": now, "exp": now + 3600, "kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "victim"},
        "pod": {"name": victim["name"], "uid": victim["uid"]}}}
    signed = encoded({"alg": algorithm, "typ": "JWT"}) + b"." + encoded(claims)
    signature = b"" if key is None else hmac.digest(key, signed, hashlib.sha256)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()

def swapped(real):
    header, _, signature = real.split(".")
    return ".".join((header, token("ES256", b"").split(".")[1], signature))

def asked(method, path, bearer, body=None):
    def attempt():
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"https://{host}:15014{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, context=anyone, timeout=10) as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code
    return attempt

def bare_ads():
    anyone.set_alpn_protocols(["h2"])
    with socket.create_connection((host, 15012), 10) as sock, anyone.wrap_socket(sock) as tls:
        tls.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes(3) + b"\\x04" + bytes(5))
        return "heard" if tls.recv(100) else "closed"

def ads(pod):
    key, chain, root = (secrets[name].encode() for name in ("key", "chain", "root"))
    with grpc.secure_channel(f"{host}:15012", grpc.ssl_channel_credentials(root, key, chain)) as channel:
        request = DiscoveryRequest(type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster")
        request.node.id = f"sidecar~{pod['ip']}~{pod['name']}.default~default.svc.cluster.local"
        call = AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources(iter([request]), timeout=20)
        try:
            return next(call).type_url.rpartition(".")[2]
        except grpc.RpcError as error:
            return error.code().name

certificates, identity = "/meshdrill/v1/certificates", "spiffe://cluster.local/ns/default/sa/victim"
minted = "/api/v1/namespaces/default/serviceaccounts/victim/token"
spec = {"audiences": ["meshdrill-ca"], "expirationSeconds": 3600,
    "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": victim["name"], "uid": victim["uid"]}}
wishes = {"certificate": ("POST", certificates, {"csr": csr, "identity": identity}),
    "pods": ("GET", "/api/v1/pods", None),
    "token": ("POST", minted, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})}
forged = {"none at all": "", "unsigned": token("none", None), "empty key": token("HS256", b""),
    "guess": token("HS256", b"x"), "root's name": token("HS256", secrets["root"].encode())}
forged["another's claims"] = swapped(secrets["token"])

def each(bearer):
    return {wish: tried(asked(method, path, bearer, body)) for wish, (method, path, body) in wishes.items()}

show({"forged": {name: each(bearer) for name, bearer in forged.items()}, "own token": each(secrets["token"]),
    "own certificate": tried(asked("POST", certificates, secrets["token"], {"csr": csr})),
    "ads without a certificate": tried(bare_ads),
    "ads": {pod["name"]: tried(lambda: ads(pod)) for pod in (own, victim)}})
"""

LOOK = """
import glob
state, pods = arguments
texts, listed = {}, {}
def read(path):
    try:
        texts[path] = whole(path)
    except OSError:
        pass

for name in ("environ", "cmdline", "mountinfo", "status", "cgroup"):
    for path in glob.glob(f"/proc/[0-9]*/{name}"):
        read(path)
for path in (*glob.glob("/proc/net/*"), "/proc/keys", "/proc/key-users", *glob.glob("/etc/*")):
    read(path)
for root in ("", "/proc/self/root", "/proc/1/root", "/proc/self/cwd/" + "../" * 20, "/proc/1/cwd/" + "../" * 20):
    folders = (state, state + "/pods", state + "/ca", "/etc/istio/proxy", "/etc/istio/proxy/secrets")
    for folder in (*folders, *(f"{state}/pods/{pod}/secrets" for pod in pods)):
        listed[root + folder] = tried(lambda: os.listdir(root + folder))
        for name in ("token", "key.pem", "default.json", "root-key.pem", "mesh.json", "store.db"):
            read(f"{root}{folder}/{name}")
for port in (15000, 15020, 15090):
    for path in ("config_dump", "certs", "server_info", "stats/prometheus"):
        texts[f"{port}/{path}"] = str(tried(http(f"http://127.0.0.1:{port}/{path}")))
    def all_of(port=port):
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/config_dump?include_eds", timeout=10).read().decode()
    texts[f"{port} whole"] = str(tried(all_of))
for fd in os.listdir("/proc/self/fd"):
    texts[f"fd {fd}"] = str(tried(lambda: os.readlink(f"/proc/self/fd/{fd}")))

def peer(name):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(chr(0) + name)
        return [*struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)),
            *struct.unpack("64I", sock.getsockopt(socket.SOL_SOCKET, 59, 256).ljust(256, bytes(1)))]

for line in texts["/proc/net/unix"].splitlines()[1:]:
    if "@" in line:
        texts[line] = str(tried(lambda: peer(line.partition("@")[2])))
show([texts, listed])
"""

BECOME = """
import ctypes, random, threading
PR_SET_KEEPCAPS, AF_NETLINK, SOCK_DIAG_BY_FAMILY = 8, 16, 20
seen = sorted({int(line.split()[7]) for line in whole("/proc/net/tcp").splitlines()[1:]})

def reaches():
    # An address that nobody has: who is captured is connected all the same, with the sidecar.
    with socket.socket() as sock:
        sock.settimeout(2)
        try:
            sock.connect(("192.0.2.1", 80))
        except OSError:
            return "uncaptured"
        return "captured"

def become(uid, gid, groups):
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            if groups is not None:
                os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            said = reaches()
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(write_end, said.encode())
            os._exit(0)
    os.close(write_end)
    said = os.read(read_end, 1000).decode()
    os.close(read_end)
    os.waitpid(child, 0)
    return said

most = random.sample(range(1 << 31), 65536)
found = {"as it is": reaches()}
for uid in {1337, *seen}:
    for gid in {1337, uid, 0}:
        found[f"{uid}:{gid}"] = become(uid, gid, None)
    found[f"{uid}, alone"] = become(uid, 1337, [])
    found[f"{uid} with many groups"] = become(uid, 1337, most)
show(found)
"""

SHARE = """
def listens(port, address, uid):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        os.seteuid(uid)
        try:
            sock.bind((address, port))
            sock.listen()
        finally:
            os.seteuid(os.getuid())
        return "listens"

def each(port):
    wanted = [(address, uid) for address in ("0.0.0.0", "127.0.0.1") for uid in (os.getuid(), 1337)]
    return [tried(lambda: listens(port, address, uid)) for address, uid in wanted]

show({port: each(port) for port in (15001, 15006, 6006)})
"""

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
        "write the hosts": tried(lambda: open("/etc/hosts", "a").close()),
        "trace": tried(called("ptrace", 16, 1, 0, 0)),
        "memory": tried(lambda: open("/proc/1/mem", "rb").close()),
        "make a device": tried(lambda: os.mknod("/tmp/made-by-a-test", stat.S_IFBLK | 0o600, os.makedev(8, 0))),
        "rules": tried(lambda: "done" if subprocess.run(["/usr/sbin/iptables", "-t", "nat", "-F"],
            capture_output=True).returncode == 0 else "OSError"),
        "see the rules": tried(lambda: "done" if subprocess.run(["/usr/sbin/iptables", "-t", "nat", "-S"],
            capture_output=True).returncode == 0 else "OSError"),
        "sysctl": tried(lambda: open("/proc/sys/net/ipv4/ip_forward", "w").write("1")),
        **{f"enter {kind}": tried(entered(kind)) for kind in ("mnt", "net", "pid", "user")},
    }

def sockets(root):
    paths = (os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)
    return [path for path in paths if stat.S_ISSOCK(os.lstat(path).st_mode)]

def engine(port):
    with open("/proc/net/route") as routes:
        gateways = [line.split()[2] for line in routes.read().splitlines()[1:]]
    first = ".".join([*control().split(".")[:3], "1"])
    near = {first, *(socket.inet_ntoa(struct.pack("<I", int(gateway, 16))) for gateway in gateways)} - {"0.0.0.0"}
    return [tried(http(f"http://{address}:{port}/version")) for address in sorted(near)]

plain = attempts()
found = {"plain": plain, "pids": sorted(int(pid) for pid in os.listdir("/proc") if pid.isdigit()),
    "sockets": [line.split()[-1] for line in whole("/proc/net/unix").splitlines()[1:] if "@" in line],
    "fds": [os.readlink(f"/proc/{os.getppid()}/fd/{fd}") for fd in os.listdir(f"/proc/{os.getppid()}/fd")],
    "socket files": [path for root in ("/run", "/var/run", "/etc") for path in sockets(root)],
    "engine": [said for port in (2375, 2376, 15014) for said in engine(port)],
    "parents": tried(lambda: os.kill(1, signal.SIGKILL))}
if libc.unshare(NEWUSER_NEWNS | NEWPID) == 0:
    found["with a user namespace of its own"] = attempts()
found["state"] = tried(lambda: os.listdir(state))
show(found)
"""
