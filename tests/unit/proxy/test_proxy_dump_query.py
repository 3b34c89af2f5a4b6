"""Parts of a configuration dump, as `/config_dump`'s parameters choose them."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.proxy.operations.admin.dump_query import UnknownResource, select
from mesh.proxy.operations.admin.page import BadQuery

ADMIN = "type.googleapis.com/envoy.admin.v3."
PACKED = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
CLUSTERS: dict[str, Any] = {
    "@type": f"{ADMIN}ClustersConfigDump",
    "version_info": "7",
    "static_clusters": [
        {"cluster": {"@type": PACKED, "name": name, "type": "EDS"}, "last_updated": "now"} for name in ("one", "two")
    ],
}
LISTENERS: dict[str, Any] = {
    "@type": f"{ADMIN}ListenersConfigDump",
    "dynamic_listeners": [{"name": "l", "active_state": {"listener": {"name": "l"}}}],
}
CONFIGS = [CLUSTERS, LISTENERS]


def test_everything_without_parameters() -> None:
    assert select(CONFIGS, {}) == CONFIGS


def test_a_resource_gives_its_elements_with_their_type() -> None:
    found = select(CONFIGS, {"resource": "static_clusters"})
    assert [each["@type"] for each in found] == [f"{ADMIN}ClustersConfigDump.StaticCluster"] * 2
    assert select(CONFIGS, {"resource": "dynamic_active_clusters"}) == []


def test_a_mask_of_a_resource_reaches_into_its_elements() -> None:
    found = select(CONFIGS, {"resource": "static_clusters", "mask": "cluster.name", "name_regex": "t.o"})
    element = {"@type": f"{ADMIN}ClustersConfigDump.StaticCluster"}
    assert found == [element | {"cluster": {"@type": PACKED, "name": "two"}}]


def test_a_mask_alone_leaves_the_dumps_that_it_names() -> None:
    assert select(CONFIGS, {"mask": "version_info"}) == [
        {"@type": f"{ADMIN}ClustersConfigDump", "version_info": "7"},
        {"@type": f"{ADMIN}ListenersConfigDump"},
    ]
    assert select(CONFIGS, {"mask": "dynamic_listeners"}) == [LISTENERS]
    assert select(CONFIGS, {"mask": "version_info,static_clusters"}) == [CLUSTERS]


def test_names_match_as_a_whole() -> None:
    found = select(CONFIGS, {"name_regex": "o"})
    assert [each for config in found for key in config for each in config[key] if isinstance(config[key], list)] == []
    assert len(select(CONFIGS, {"name_regex": "o.*"})[0]["static_clusters"]) == 1


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"resource": "version_info"}, "version_info is not a repeated field"),
        ({"resource": "static_clusters", "mask": "nope.x"}, "could not be successfully used"),
        ({"resource": "static_clusters", "mask": "cluster"}, 'paths: "cluster"\n could not be successfully used'),
        ({"resource": "static_clusters", "mask": "last_updated,cluster.nope"}, 'paths: "cluster.nope"\n could not be'),
        ({"resource": "static_clusters", "mask": "cluster.name.x"}, "could not be successfully used"),
        ({"mask": "nope"}, "FieldMask nope could not be successfully applied to any configs"),
        ({"mask": "static_clusters.cluster"}, "could not be successfully applied to any configs"),
        ({"name_regex": "("}, "Error while parsing name_regex"),
    ],
)
def test_wrong_parameters_are_told(query: dict[str, str], reason: str) -> None:
    with pytest.raises(BadQuery, match=reason):
        select(CONFIGS, query)


def test_an_unknown_resource_is_not_found() -> None:
    with pytest.raises(UnknownResource, match="nope not found in config dump"):
        select(CONFIGS, {"resource": "nope"})
