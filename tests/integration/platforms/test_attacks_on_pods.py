"""What an app tries from its container, in a whole mesh, to get around a sidecar, to be somebody else, or to read what
is the mesh's: the same attempts on netns and on docker. Each runs in the app's own container; what must not be had is
shown to be there."""

from collections.abc import Iterator

import pytest
from attack_scenes import Attacks, on_docker, on_netns
from attacks import AROUND, BECOME, FORGE, KERNEL, LOOK, SHARE, SPOOF

pytestmark = pytest.mark.timeout(1200)  # the first on docker builds images

SAID = "the app itself"
DENIED = [403, "RBAC: access denied"]
PLACES = [
    pytest.param((place, engine), id=f"{place}-{engine}", marks=[pytest.mark.envoy] if engine == "envoy" else [])
    for place in ("root", "rootless", "docker")
    for engine in ("python", "envoy")
]


@pytest.fixture(scope="module", params=PLACES)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacks]:
    place, engine = request.param
    made = on_docker(engine, tmp_path_factory.mktemp("attacks")) if place == "docker" else on_netns(place, engine)
    with made as found:
        yield found


PORTS = (8000, 9999, 7777, 15000, 15001, 15006, 15008, 15020, 15053)


def test_no_port_of_another_pod_leads_around_its_sidecar(scene: Attacks) -> None:
    victim = scene.pods["victim"].ip
    for name in (*scene.attackers, "outsider"):
        found = scene.run(name, AROUND, victim, PORTS)
        if name != "outsider":
            assert found.pop("by name") == found.pop("http 8000") == DENIED
        leaked = {attempt: said for attempt, said in found.items() if SAID in str(said) or "configs" in str(said)}
        assert leaked == {}, name
        served = {attempt: said for attempt, said in found.items() if isinstance(said, list) and said[0] < 400}
        assert served == {}, name
    # All of it is there, for the victim itself and for whom it lets in.
    assert scene.run("friend", 'show(tried(http("http://victim:8000/")))') == [200, SAID]
    for address, port in ((victim, 9999), (victim, 15008), ("127.0.0.1", 7777)):
        connected = f"import socket; sock = socket.create_connection(('{address}', {port}), 10)"
        assert scene.inside("victim", f"{connected}; sock.sendall(b'?'); print(sock.recv(99).decode())") == SAID
    code = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:15000/ready').status)"
    assert scene.inside("victim", code) == "200"


def test_no_app_speaks_from_the_address_of_another_pod(scene: Attacks) -> None:
    friend, victim = scene.pods["friend"].ip, scene.pods["victim"].ip
    for name in (*scene.attackers, "outsider"):
        found, heard = scene.run(name, SPOOF, victim, friend)
        assert found["plain"].startswith("OSError: [Errno 99]")
        assert found["transparent"].startswith("PermissionError")
        assert found["tcp"].startswith(("OSError", "TimeoutError", "PermissionError"))
        assert [scene.pods[name].ip, "honest"] in heard
        assert {sender for sender, _ in heard}.isdisjoint({victim})


def test_no_forged_or_swapped_proof_gets_another_identity_or_into_the_control_plane(scene: Attacks) -> None:
    """Not even with all that proves who its own sidecar is, which it cannot have."""
    facts = {name: {"name": pod.name, "uid": pod.uid, "ip": pod.ip} for name, pod in scene.pods.items()}
    own, victim = facts["attacker"], facts["victim"]
    found = scene.run("attacker", FORGE, own, victim, scene.secrets("attacker"))
    assert len(found["forged"]) == 6
    for bearer, answers in found["forged"].items():
        assert answers == {"certificate": 401, "pods": 401, "token": 401}, bearer
    assert found["own token"] == {"certificate": 403, "pods": 403, "token": 403}
    assert found["own certificate"] in (200, 201)
    assert found["ads"] == {own["name"]: "Cluster", victim["name"]: "PERMISSION_DENIED"}
    ads = found["ads without a certificate"]
    assert "SSLError" in ads or ads.startswith("Connection") or ads == "closed", ads


def test_no_app_reads_a_key_or_a_token_of_the_mesh_or_what_its_sidecar_is_known_by(scene: Attacks) -> None:
    hidden = scene.not_to_be_known()
    for name in scene.attackers:
        texts, listed = scene.run(name, LOOK, str(scene.mesh.state), [pod.name for pod in scene.pods.values()])
        assert len(texts) > 10
        assert [(what, source) for what, line in hidden.items() for source, text in texts.items() if line in text] == []
        assert {str(said) for said in listed.values()} <= {"[]"} | {said for said in listed.values() if "Error" in said}


def test_no_user_or_group_that_an_app_can_become_is_taken_for_its_sidecar(scene: Attacks) -> None:
    for name in scene.attackers:
        found = scene.run(name, BECOME)
        assert found.pop("as it is") == "captured"
        assert len(found) > 4
        assert {who: said for who, said in found.items() if said != "captured" and "Error" not in said} == {}
        if name == "root":  # the attempts came off
            assert set(found.values()) == {"captured"}
    # The sidecar itself is let through, to where nobody is.
    code = "import socket; sock = socket.socket(); sock.settimeout(2); sock.connect(('192.0.2.1', 80))"
    assert "OSError" in (said := scene.as_proxy("attacker", code)) or "TimeoutError" in said


def test_no_app_shares_a_port_on_which_its_sidecar_captures(scene: Attacks) -> None:
    for name in scene.attackers:
        found = scene.run(name, SHARE)
        assert found.pop("6006")[0] == "listens"
        assert [said for port in found.values() for said in port if "Error" not in said] == [], name


def test_no_app_has_the_proxys_mark_or_leaves_its_container(scene: Attacks) -> None:
    for name in scene.attackers:
        found = scene.run(name, KERNEL, str(scene.mesh.state))
        for how in ("plain", "with a user namespace of its own"):
            for attempt, said in found.get(how, {}).items():
                if attempt in scene.its_own:
                    continue
                if attempt.startswith("enter "):  # its own, at best
                    assert said == [] or "Error" in str(said), (how, attempt, said)
                else:
                    assert "Error" in str(said), (how, attempt, said)
        assert found["state"] == [] or found["state"].startswith("FileNotFoundError")
        assert found["sockets"] == found["socket files"] == []
        assert [said for said in found["engine"] if isinstance(said, list) and said[0] < 400] == []
        assert len(found["pids"]) <= 4  # the first process, the app, and this attempt
        assert all(fd.startswith(("socket:", "pipe:", "/dev/null", "/")) for fd in found["fds"])
        # It is as it was: the app answers, its traffic is captured.
        assert scene.run(name, 'show(tried(http("http://victim:8000/")))') == DENIED
