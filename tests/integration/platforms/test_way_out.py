"""Servers of the host, outside of the mesh: what leaves a pod on netns, by which way, and what does not leave."""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import DNSName
from meshdrill_command import Meshdrill, until, why_no_netns
from outside import Outside, outside
from scripted_app import Scene, app
from xdskit.pki import Authority

from chaos import in_force
from mesh.client import Pod

APPS = Path(__file__).parents[3] / "apps"
HOST, NAME = "10.244.0.2", "host.meshdrill.internal"
GATEWAY = "istio-egressgateway.istio-system.svc.cluster.local"
SENT_OUT = "edition.example.com"
REGISTRY_ONLY = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "istio", "namespace": "istio-system"},
    "data": {"mesh": "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"},
}
ASK = """
def exchange(host, port):
    def attempt():
        with socket.create_connection((host, port), 10) as sock:
            try:
                found = sock.recv(100).decode()
                if not found:
                    return "closed"
                sock.sendall(b"x" * 300_000)
                sock.shutdown(socket.SHUT_WR)
                return f"{found} {sock.recv(100).decode()}"
            except ConnectionError:
                return "closed"
    return attempt

def get(url):
    found = tried(http(url))
    try:
        told = json.loads(found[1])
        return [found[0], told["host"], told["server name"]]
    except ValueError:
        return found[:1] if isinstance(found, list) else "closed"

def at(host, port):
    return get(f"http://{host}:{port}/")
"""


@dataclass
class World:
    """A mesh with one app in it, and what is outside. `root` is a file with who vouches for the secure server."""

    scene: Scene
    out: Outside
    root: Path

    def ask(self, source: str, *arguments: object) -> Any:
        return self.scene.run("caller", f"{ASK}{source}", *arguments)

    def await_answer(self, expected: object, source: str, *arguments: object) -> None:
        """Envoy confirms a change a moment before its workers have it, and what was open may have one more answer."""
        until(lambda: self.ask(source, *arguments) == expected, f"the answer is {expected}")


@pytest.fixture(scope="module", params=["python", pytest.param("envoy", marks=pytest.mark.envoy)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if reason := why_no_netns():
        pytest.skip(f"no network namespaces: {reason}")
    folder = tmp_path_factory.mktemp("way-out")
    authority = Authority()
    names = (DNSName("secure.example.com"), DNSName(SENT_OUT))
    for name, content in zip(("key", "chain"), authority.issue(*names), strict=True):
        (folder / name).write_bytes(content)
    root = folder / "root.pem"
    root.write_bytes(authority.root)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain", folder / "key")
    command = Meshdrill(folder / "state")
    with outside(context) as out:
        way = [word for port in out.listed for word in ("--host-port", str(port))]
        file = command.write("caller.yaml", app("caller"))
        with command.up_in_front("-f", file, "--platform", "netns", "--proxy", request.param, *way):
            yield World(Scene.of(command), out, root)
    assert not command.processes()


def istio(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def entry(name: str, host: str, protocol: str, number: int, target: int = 0, **spec: Any) -> dict[str, Any]:
    """A ServiceEntry of one host and one port."""
    port = {"number": number, "name": protocol.lower(), "protocol": protocol}
    return istio("ServiceEntry", name, hosts=[host], ports=[port | ({"targetPort": target} if target else {})], **spec)


STATIC = {"resolution": "STATIC", "endpoints": [{"address": HOST}]}
DNS = {"resolution": "DNS", "endpoints": [{"address": NAME}]}


def test_a_listed_port_is_reached_by_name_and_by_address_and_no_other_is(world: World) -> None:
    web, _, greeter = world.out.listed
    unlisted = world.out.unlisted.getsockname()[1]
    found = world.ask(
        """
web, greeter, unlisted, address, name = arguments
show({
    "address": socket.gethostbyname(name),
    "by name": at(name, web),
    "by address": at(address, web),
    "a server that speaks first": tried(exchange(name, greeter)),
    "a port that is not listed": tried(exchange(name, unlisted)),
    "the same at the node": tried(exchange("10.244.0.1", greeter)),
})
""",
        *(web, greeter, unlisted, HOST, NAME),
    )
    assert found.pop("the same at the node").startswith("ConnectionRefusedError")
    assert found == {
        "address": HOST,
        "by name": [200, f"{NAME}:{web}", ""],
        "by address": [200, f"{HOST}:{web}", ""],
        "a server that speaks first": "hello 300000",
        "a port that is not listed": "closed",
    }
    world.out.unlisted.setblocking(False)
    with pytest.raises(BlockingIOError):
        world.out.unlisted.accept()


def test_under_registry_only_it_takes_a_service_entry(world: World) -> None:
    web, _, greeter = world.out.listed
    source = """
web, greeter, address, name = arguments
show({
    "static": at("static.example.com", web),
    "by dns": at("named.example.com", web),
    "its own name": at(name, web),
    "its address": at(address, web),
    "tcp, static": tried(exchange("greeter.example.com", greeter)),
    "tcp, its own name": tried(exchange(name, greeter)),
    "tcp, its address": tried(exchange(address, greeter)),
})
"""
    hosts = [
        entry("static", "static.example.com", "HTTP", web, **STATIC),
        entry("named", "named.example.com", "HTTP", web, **DNS),
        entry("greeter", "greeter.example.com", "TCP", greeter, **STATIC),
    ]
    port = {"name": "tcp", "number": greeter, "protocol": "TCP"}
    own = entry("own", NAME, "HTTP", web, resolution="DNS")
    own["spec"]["ports"].append(port)
    arguments = (web, greeter, HOST, NAME)
    with world.scene.mesh.applied(REGISTRY_ONLY):
        until(lambda: world.ask(source, *arguments)["tcp, its address"] == "closed", "the policy holds")
        for attempt, said in world.ask(source, *arguments).items():
            assert said == "closed" or said.startswith("gaierror"), attempt  # nobody knows the entries' names yet
        with world.scene.mesh.applied(*hosts, own):
            expected = {
                "static": [200, f"static.example.com:{web}", ""],
                "by dns": [200, f"named.example.com:{web}", ""],
                "its own name": [200, f"{NAME}:{web}", ""],
                "its address": [502],
                "tcp, static": "hello 300000",
                "tcp, its own name": "hello 300000",
                "tcp, its address": "closed",
            }
            world.await_answer(expected, source, *arguments)


def test_a_sidecar_begins_tls_with_a_server_of_the_host(world: World) -> None:
    secure = world.out.listed[1]
    stranger = world.root.with_name("stranger.pem")
    stranger.write_bytes(Authority().root)

    def rule(root: Path) -> dict[str, Any]:
        tls = {"mode": "SIMPLE", "caCertificates": str(root)}
        return istio("DestinationRule", "secure", host="secure.example.com", trafficPolicy={"tls": tls})

    with world.scene.mesh.applied(entry("secure", "secure.example.com", "HTTP", 80, secure, **DNS)):
        for root, expected in ((stranger, [503]), (world.root, [200, "secure.example.com", "secure.example.com"])):
            with world.scene.mesh.applied(rule(root)):
                world.await_answer(expected, 'show(get("http://secure.example.com/"))')


def test_a_fault_of_a_pods_network_falls_on_the_way_out_too(world: World) -> None:
    cut = {
        "apiVersion": "meshdrill.dev/v1alpha1",
        "kind": "PodFault",
        "metadata": {"name": "cut"},
        "spec": {"selector": {"matchLabels": {"app": "caller"}}, "reset": {}},
    }
    source = f"show(tried(exchange({NAME!r}, {world.out.greeter})))"
    with world.scene.mesh.client() as client:
        with client.fault("cut", [cut]):
            in_force.await_in_force(client, [cut])
            assert world.ask(source) == "closed"
        in_force.await_gone(client, [cut])
        world.await_answer("hello 300000", source)


@pytest.fixture(scope="module")
def gateway_log(world: World) -> Callable[[], str]:
    """An egress gateway for the mesh; what its log says."""
    mesh = world.scene.mesh
    done = mesh.run("apply", "-f", str(APPS / "egress-gateway.yaml"), "--wait")
    assert done.returncode == 0, done.stderr

    def pod() -> Pod | None:
        return next((pod for pod in client.pods() if pod.workload == "istio-egressgateway" and pod.ready), None)

    with mesh.client() as client:
        found = until(pod, "the egress gateway is ready")
        client.wait_synced()
    log: Path = mesh.state / "logs" / f"{found.name}.istio-proxy.log"
    return log.read_text


def through_gateway(server: dict[str, Any], policy: dict[str, Any]) -> list[dict[str, Any]]:
    """Istio's sample: sidecars send what is for the host to a port of the gateway, by a subset of that policy, and the
    gateway sends it on to the host's port of the same number."""
    number = server["port"]["number"]
    return [
        istio("Gateway", "egress", selector={"istio": "egressgateway"}, servers=[{"hosts": [SENT_OUT], **server}]),
        istio("DestinationRule", "egress", host=GATEWAY, subsets=[{"name": "edition", **policy}]),
        istio(
            "VirtualService",
            "egress",
            hosts=[SENT_OUT],
            gateways=["egress", "mesh"],
            http=[
                {
                    "match": [{"gateways": ["mesh"], "port": 80}],
                    "route": [{"destination": {"host": GATEWAY, "subset": "edition", "port": {"number": number}}}],
                },
                {
                    "match": [{"gateways": ["egress"], "port": number}],
                    "route": [{"destination": {"host": SENT_OUT, "port": {"number": number}}}],
                },
            ],
        ),
    ]


def port_policy(number: int, **tls: str) -> dict[str, Any]:
    return {"trafficPolicy": {"portLevelSettings": [{"port": {"number": number}, "tls": tls}]}}


def logged(log: Callable[[], str], path: str) -> str:
    """The line of that request."""
    lines: list[str] = until(lambda: [line for line in log().splitlines() if f"GET {path} " in line], "it is logged")
    return lines[0]


def test_requests_leave_by_the_egress_gateway(world: World, gateway_log: Callable[[], str]) -> None:
    web = world.out.listed[0]
    sent_out = entry("edition", SENT_OUT, "HTTP", 80, web, **DNS)
    sample = through_gateway({"port": {"number": 80, "name": "http", "protocol": "HTTP"}}, {})
    mesh = world.scene.mesh
    with mesh.applied(REGISTRY_ONLY), mesh.applied(sent_out):
        world.await_answer([200, SENT_OUT, ""], f'show(get("http://{SENT_OUT}/directly"))')
        with mesh.applied(*sample):
            world.await_answer([200, SENT_OUT, ""], f'show(get("http://{SENT_OUT}/by-the-gateway"))')
    assert world.out.web.asked[-1] == "/by-the-gateway"
    assert f"outbound|80||{SENT_OUT}" in logged(gateway_log, "/by-the-gateway")
    assert "/directly" not in gateway_log()


def test_they_reach_it_by_mutual_tls_and_leave_it_by_tls(world: World, gateway_log: Callable[[], str]) -> None:
    web, secure, _ = world.out.listed
    sent_out = entry("edition", SENT_OUT, "HTTP", 80, web, **DNS)
    sent_out["spec"]["ports"].append({"number": 443, "name": "https", "protocol": "HTTPS", "targetPort": secure})
    server = {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "tls": {"mode": "ISTIO_MUTUAL"}}
    originate = port_policy(443, mode="SIMPLE", caCertificates=str(world.root))
    resources = [
        sent_out,
        *through_gateway(server, port_policy(443, mode="ISTIO_MUTUAL", sni=SENT_OUT)),
        istio("DestinationRule", "edition", host=SENT_OUT, **originate),
    ]

    with world.scene.mesh.applied(*resources):
        for account, expected in (("caller", [200, SENT_OUT, SENT_OUT]), ("somebody-else", [403])):
            with world.scene.mesh.applied(only(account)):
                world.await_answer(expected, f'show(get("http://{SENT_OUT}/for-{account}"))')
    assert "/for-caller" in world.out.secure.asked
    assert f"outbound|443||{SENT_OUT}" in logged(gateway_log, "/for-caller")
    until(lambda: "rbac_access_denied" in gateway_log(), "who was not let in is in the log")


def only(account: str) -> dict[str, Any]:
    """Lets nobody else in at the egress gateway, whom mutual TLS has to name."""
    source = {"principals": [f"cluster.local/ns/default/sa/{account}"]}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "egress", "namespace": "istio-system"},
        "spec": {"selector": {"matchLabels": {"istio": "egressgateway"}}, "rules": [{"from": [{"source": source}]}]},
    }
