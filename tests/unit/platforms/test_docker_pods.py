"""What the docker platform decides without an engine: addresses, rules, exit codes."""

from signal import SIGKILL, SIGTERM

import pytest

from mesh.platforms.base import PlatformError
from mesh.platforms.docker.container import exit_code
from mesh.platforms.docker.engine import mapping_of
from mesh.platforms.docker.network import Addresses
from mesh.platforms.docker.rules import ProxyIds, pod_rules
from mesh.platforms.docker.wheels import Target
from mesh.platforms.netns.interception import Interception


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


def test_the_proxy_is_known_by_its_uid_and_all_of_its_groups_and_the_control_plane_is_not_captured() -> None:
    proxy = ProxyIds(70001, (70002, 70003))
    rules = pod_rules(Interception(), "172.20.0.2", proxy).splitlines()
    groups = "--gid-owner 70001 -m owner --gid-owner 70002 --suppl-groups -m owner --gid-owner 70003 --suppl-groups"
    assert f"-A ISTIO_OUTPUT -p tcp -m owner --uid-owner 1337 {groups} -g ISTIO_PROXY" in rules
    assert [rule for rule in rules if "owner" in rule and groups not in rule] == []
    assert "-A ISTIO_OUTPUT -p tcp -d 172.20.0.2/32 -j RETURN" in rules
    assert not [rule for rule in rules if "mark" in rule]
    assert pod_rules(None, "172.20.0.2", proxy) == ""


def test_each_pods_proxy_has_groups_of_its_own_that_no_image_has() -> None:
    one, other = ProxyIds.drawn(), ProxyIds.drawn()
    groups = [one.gid, *one.groups, other.gid, *other.groups]
    assert len(set(groups)) == 10
    assert min(groups) > 65535
    assert max(groups) < 2**31 - 1  # what Docker takes for a group
    assert one.user == f"1337:{one.gid}"


def test_an_engine_that_maps_users_is_known_by_what_it_tells() -> None:
    assert mapping_of(["name=seccomp,profile=builtin", "name=cgroupns"]) == ""
    assert mapping_of(["name=seccomp,profile=default", "name=userns"]) == "userns"
    assert mapping_of(["name=rootless", "name=cgroupns"]) == "rootless"


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
