"""What a file for discovery may hold, and what is said of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.proxy.operations.references import CLUSTER, ENDPOINT
from mesh.proxy.operations.resource_files import FileError, read

A_CLUSTER = "{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: a}"
ENDPOINT_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def written(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text)
    return path


def test_resources_by_name_and_their_version(tmp_path: Path) -> None:
    path = written(tmp_path, f"version_info: v7\nresources: [{A_CLUSTER}]")
    found, version = read(path, CLUSTER)
    assert (list(found), version) == (["a"], "v7")


def test_assignments_go_by_their_cluster(tmp_path: Path) -> None:
    path = written(tmp_path, f"resources: [{{'@type': {ENDPOINT_TYPE}, cluster_name: a}}]")
    assert list(read(path, ENDPOINT)[0]) == ["a"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"resources: [{{'@type': {ENDPOINT_TYPE}, cluster_name: a}}]", "is not envoy.config.cluster.v3.Cluster"),
        (f"resources: [{A_CLUSTER}, {A_CLUSTER}]", "'a' is there twice"),
        ("resources: 7", "file.yaml"),
        ("{", "file.yaml"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(FileError, match=r"file\.yaml") as error:
        read(written(tmp_path, text), CLUSTER)
    assert why in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file"):
        read(tmp_path / "none.yaml", CLUSTER)
