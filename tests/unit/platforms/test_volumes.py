"""What volumes hold, and where containers see them."""

from pathlib import Path
from typing import Any

import pytest

from mesh.api.core import ConfigMap, Secret
from mesh.api.meta import ObjectMeta
from mesh.api.pod import Container, Pod, PodSpec, VolumeMount
from mesh.platforms.base import PlatformError, Surroundings
from mesh.platforms.leftovers import sweep
from mesh.platforms.process.refusals import refuse_what_is_lacking
from mesh.platforms.process.volume_folder import remove_volumes
from mesh.platforms.process.volumes import File, Mount, PodVolumes, files_of

META = ObjectMeta(name="own", namespace="shop")
AROUND = Surroundings(
    config_maps={
        "own": ConfigMap(api_version="v1", metadata=META, data={"a": "text"}, binary_data={"b": "AP8="}),
    },
    secrets={"own": Secret(api_version="v1", metadata=META, data={"key": "b2xk"}, string_data={"key": "s3cr3t"})},
)


def files(**volume: Any) -> dict[str, File]:
    return files_of({"name": "v", **volume}, AROUND)


def test_a_volume_holds_every_entry_or_those_that_are_asked_for() -> None:
    assert files(configMap={"name": "own"}) == {"a": File(0o644, b"text"), "b": File(0o644, b"\0\xff")}
    items = [{"key": "a", "path": "in/a"}, {"key": "b", "path": "b", "mode": 0o400}]
    chosen = files(configMap={"name": "own", "defaultMode": 0o600, "items": items})
    assert {path: file.mode for path, file in chosen.items()} == {"in/a": 0o600, "b": 0o400}
    assert files(secret={"secretName": "own"}) == {"key": File(0o644, b"s3cr3t")}
    assert "s3cr3t" not in repr(files(secret={"secretName": "own"}))


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "none"}}, 'volume "v": configmap "none" not found'),
        ({"secret": {"secretName": "none"}}, 'volume "v": secret "none" not found'),
        (
            {"configMap": {"name": "own", "items": [{"key": "c", "path": "c"}]}},
            'volume "v" references non-existent config key: c',
        ),
        (
            {"secret": {"secretName": "own", "items": [{"key": "c", "path": "c"}]}},
            'volume "v" references non-existent secret key: c',
        ),
    ],
)
def test_what_is_missing_is_named_unless_it_may_be(volume: dict[str, Any], message: str) -> None:
    with pytest.raises(PlatformError, match=message):
        files(**volume)
    (kind,) = volume
    assert files(**{kind: {**volume[kind], "optional": True}}) == {}


def pod(*mounts: VolumeMount) -> Pod:
    volumes = (
        {"name": "config", "configMap": {"name": "own", "items": [{"key": "a", "path": "in/a"}]}},
        {"name": "empty", "emptyDir": {}},
    )
    container = Container(name="app", command=("x",), volume_mounts=mounts)
    return Pod(api_version="v1", metadata=META, spec=PodSpec(containers=(container,), volumes=volumes))


def mounts(folder: Path, *asked: VolumeMount) -> tuple[Mount, ...]:
    made = pod(*asked)
    return PodVolumes(made, AROUND, folder, lambda name: str(folder / name), 0o700).mounts(made.spec.containers[0])


def test_only_an_empty_folder_may_be_written(tmp_path: Path) -> None:
    found = mounts(
        tmp_path / "p",
        VolumeMount(name="config", mount_path="/a"),
        VolumeMount(name="config", mount_path="/b", sub_path="in/a"),
        VolumeMount(name="empty", mount_path="/c"),
        VolumeMount(name="empty", mount_path="/d", sub_path="of/mine", read_only=True),
    )
    assert [(mount.source.removeprefix(f"{tmp_path}/p/"), mount.writable) for mount in found] == [
        ("config", False),
        ("config/in/a", False),
        ("empty", True),
        ("empty/of/mine", False),
    ]
    assert (tmp_path / "p/config/in/a").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "p/config/in").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "p/empty/of/mine").is_dir()


def test_a_path_that_the_volume_has_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match='container "app": volume "config" has no "b"'):
        mounts(tmp_path / "p", VolumeMount(name="config", mount_path="/a", sub_path="b"))


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (VolumeMount(name="empty", mount_path="/a", sub_path="b"), "subPath of an emptyDir is not carried out"),
        (VolumeMount(name="config", mount_path="/a", sub_path_expr="$(B)"), "subPathExpr is not carried out"),
        (VolumeMount(name="config", mount_path="/../"), "would cover all files"),
    ],
)
def test_mounts_that_are_not_made_are_refused_by_name(mount: VolumeMount, message: str) -> None:
    with pytest.raises(PlatformError, match=message):
        refuse_what_is_lacking(pod(mount), platform="docker", images=True)


def test_what_a_killed_mesh_left_of_volumes_is_swept(tmp_path: Path) -> None:
    (tmp_path / "volumes" / "pod" / "secret").mkdir(parents=True)
    (tmp_path / "volumes" / "pod" / "secret" / "key").touch()
    sweep(tmp_path)
    assert not (tmp_path / "volumes").exists()


def test_a_pods_volumes_go_whatever_it_made_of_them(tmp_path: Path) -> None:
    remove_volumes(tmp_path / "none")
    locked = tmp_path / "p" / "empty" / "locked"
    (locked / "in").mkdir(parents=True)
    (locked / "in" / "file").touch()
    (tmp_path / "p" / "link").symlink_to("/etc")
    (locked / "in").chmod(0)
    locked.chmod(0)
    remove_volumes(tmp_path / "p")
    assert list(tmp_path.iterdir()) == []
    assert Path("/etc").is_dir()
