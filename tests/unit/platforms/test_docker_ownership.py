"""Whose a container is: nothing is ever removed that does not bear this mesh's labels and this user's."""

from pathlib import Path

import pytest

from mesh.platforms.docker.ownership import INFRA, Ownership, host_name, state_id
from mesh.platforms.docker.sweep import chosen

OWN = Ownership(state="aaaaaaaaaaaaaaaa", owner=1000, mesh="shop", run="r1")


def container(ident: str, **labels: str) -> dict[str, object]:
    return {"Id": ident, "Labels": labels and {f"meshdrill.dev/{name}": value for name, value in labels.items()}}


def test_labels_say_all_of_a_container() -> None:
    assert OWN.labels(namespace="default", pod="web-1", container="app") == {
        "meshdrill.dev/mesh": "shop",
        "meshdrill.dev/state": "aaaaaaaaaaaaaaaa",
        "meshdrill.dev/owner": "1000",
        "meshdrill.dev/run": "r1",
        "meshdrill.dev/namespace": "default",
        "meshdrill.dev/pod": "web-1",
        "meshdrill.dev/container": "app",
    }
    assert "meshdrill.dev/pod" not in OWN.labels()


@pytest.mark.parametrize(
    ("labels", "is_ours"),
    [
        ({"state": "aaaaaaaaaaaaaaaa", "owner": "1000", "run": "r1"}, True),
        ({"state": "aaaaaaaaaaaaaaaa", "owner": "1000", "run": "r2"}, False),
        ({"state": "aaaaaaaaaaaaaaaa", "owner": "1001", "run": "r1"}, False),
        ({"state": "bbbbbbbbbbbbbbbb", "owner": "1000", "run": "r1"}, False),
        ({"mesh": "shop", "run": "r1"}, False),
        ({}, False),
    ],
)
def test_a_run_covers_its_own_alone(labels: dict[str, str], is_ours: bool) -> None:
    assert OWN.covers({f"meshdrill.dev/{name}": value for name, value in labels.items()}) is is_ours


def test_without_a_run_all_lives_of_the_mesh_are_covered() -> None:
    every = Ownership(OWN.state, OWN.owner)
    assert every.covers(OWN.labels())
    assert every.covers(Ownership(OWN.state, OWN.owner, "renamed", "r9").labels())
    assert not every.covers(None)


def test_a_sweep_takes_what_is_ours_and_owners_of_namespaces_last() -> None:
    listed = [
        container("infra", state=OWN.state, owner="1000", run="r1", container=INFRA),
        container("app", state=OWN.state, owner="1000", run="r1", container="app"),
        container("another user's", state=OWN.state, owner="0", run="r1"),
        container("somebody's"),
        {"Id": "without labels", "Labels": None},
    ]
    assert chosen(listed, OWN) == ["app", "infra"]


def test_names_differ_between_meshes_and_hold_no_letter_that_the_engine_refuses() -> None:
    other = Ownership(state="bbbbbbbbbbbbbbbb", owner=1000, mesh="shop")
    assert OWN.name("web-1", "app") == "meshdrill-aaaaaaaa-web-1-app"
    assert other.name("web-1", "app") != OWN.name("web-1", "app")
    assert OWN.name("a b/c", "") == "meshdrill-aaaaaaaa-a_b_c"


def test_a_state_folder_has_one_id_however_it_is_spelt(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "state")
    assert state_id(tmp_path / "link") == state_id(tmp_path / "x" / ".." / "state")
    assert state_id(tmp_path / "state") != state_id(tmp_path / "other")


def test_a_long_pod_name_is_cut_to_what_a_host_name_may_be() -> None:
    assert host_name("web-1") == "web-1"
    assert host_name("a" * 62 + "-bcd") == "a" * 62
