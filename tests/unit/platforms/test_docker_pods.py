"""What the docker platform decides without an engine: addresses, rules, privileges, exit codes."""

from signal import SIGKILL, SIGTERM

import pytest

from mesh.api.pod import Container
from mesh.platforms.base import PROXY_CONTAINER, PlatformError
from mesh.platforms.docker.container import exit_code
from mesh.platforms.docker.images import capabilities, check_user
from mesh.platforms.docker.network import Addresses
from mesh.platforms.docker.rules import pod_rules
from mesh.platforms.docker.wheels import Target
from mesh.platforms.netns.interception import Interception


def image(user: str) -> dict[str, object]:
    return {"Config": {"User": user}}


def test_addresses_of_a_subnet_go_round_and_leave_the_hosts_and_the_control_planes() -> None:
    addresses = Addresses("172.20.0.0/27")
    assert (addresses.gateway, addresses.control) == ("172.20.0.1", "172.20.0.2")
    assert addresses.others == "172.20.0.0/28"
    taken = [addresses.take() for _ in range(15)]
    assert taken[0] == "172.20.0.16"
    assert taken[-1] == "172.20.0.30"  # .31 is the broadcast address
    with pytest.raises(PlatformError, match=r"172\.20\.0\.0/27"):
        addresses.take()
    addresses.give_back("172.20.0.20")
    assert addresses.take() == "172.20.0.20"


def test_the_proxy_is_known_by_its_uid_and_the_control_plane_is_not_captured() -> None:
    rules = pod_rules(Interception(), "172.20.0.2").splitlines()
    assert "-A ISTIO_OUTPUT -p tcp -m owner --uid-owner 1337 -j RETURN" in rules
    assert "-A ISTIO_OUTPUT -p tcp -o lo -m owner ! --uid-owner 1337 -j RETURN" in rules
    assert "-A ISTIO_OUTPUT -p tcp -d 172.20.0.2/32 -j RETURN" in rules
    assert not [rule for rule in rules if "mark" in rule]
    assert pod_rules(None, "172.20.0.2") == ""


def test_an_app_keeps_capabilities_only_where_its_image_starts_as_root() -> None:
    assert capabilities(image("1000:1000")) == []
    assert capabilities(image("nginx")) == []
    for root in ("", "0", "0:0", "root"):
        assert "SETUID" in capabilities(image(root))
        assert not {"NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE"} & set(capabilities(image(root)))


def test_an_image_that_runs_as_the_proxy_is_refused() -> None:
    with pytest.raises(PlatformError, match="image web:1 runs as uid 1337"):
        check_user(Container(name="app", image="web:1"), image("1337:1"))
    check_user(Container(name=PROXY_CONTAINER, image="web:1"), image("1337"))


@pytest.mark.parametrize(("status", "code"), [(0, 0), (1, 1), (137, -SIGKILL), (143, -SIGTERM), (128, 128), (255, 255)])
def test_exit_codes_tell_of_signals(status: int, code: int) -> None:
    assert exit_code(status) == code


def test_wheels_are_asked_for_by_the_bases_python() -> None:
    words = Target.read('[[3, 12], "aarch64", ["glibc", "2.17"]]', "base").arguments()
    assert words[words.index("--python-version") + 1] == "3.12"
    assert "manylinux_2_17_aarch64" in words
    assert "manylinux_2_18_aarch64" not in words


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ('[[3, 10], "x86_64", ["glibc", "2.36"]]', "has Python 3.10"),
        ('[[3, 12], "x86_64", ["", ""]]', "not built on glibc"),
        ("exec: python3: not found", "has no python3 that runs: exec: python3"),
    ],
)
def test_a_base_that_cannot_be_built_on_is_refused(answer: str, why: str) -> None:
    with pytest.raises(PlatformError, match=why):
        Target.read(answer, "old:1")
