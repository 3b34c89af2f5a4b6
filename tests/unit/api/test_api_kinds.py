"""The table of kinds, and how fields are spelt."""

from __future__ import annotations

import dataclasses

import pytest

from mesh.api.destination_rule import LocalityFailover, OutlierDetection
from mesh.api.fields import json_fields
from mesh.api.kinds import KINDS, Kind, UnknownKindError, by_api_version, by_path
from mesh.api.known import KNOWN
from mesh.api.meta import ObjectMeta
from mesh.api.pod import Pod, PodStatus


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_found_by_path_and_by_manifest(kind: Kind) -> None:
    for version, api_version in zip(kind.versions, kind.api_versions, strict=True):
        assert by_path(kind.group, version, kind.plural) is kind
        assert by_api_version(api_version, kind.name) is kind
    assert kind.name == kind.type.KIND
    assert dataclasses.is_dataclass(kind.type)


@pytest.mark.parametrize(("group", "version", "plural"), [("", "v2", "pods"), ("apps", "v1", "pods"), ("", "v1", "x")])
def test_a_path_that_is_not_served_is_refused(group: str, version: str, plural: str) -> None:
    with pytest.raises(UnknownKindError, match="no kind at"):
        by_path(group, version, plural)


def test_a_version_that_is_not_served_names_those_that_are() -> None:
    with pytest.raises(
        UnknownKindError, match=r'not served as "v1"; use security.istio.io/v1 or security.istio.io/v1beta1'
    ):
        by_api_version("v1", "PeerAuthentication")


def test_fields_are_spelt_as_in_the_real_apis() -> None:
    assert json_fields(OutlierDetection)["consecutive5xxErrors"] == "consecutive_5xx_errors"
    assert json_fields(PodStatus)["podIP"] == "pod_ip"
    assert json_fields(LocalityFailover)["from"] == "from_"


def test_resources_are_immutable_and_without_stray_attributes() -> None:
    pod = Pod(api_version="v1", metadata=ObjectMeta(name="x"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        pod.api_version = "v2"  # type: ignore[misc]
    assert not hasattr(pod, "__dict__")


def test_every_type_that_the_known_fields_name_exists() -> None:
    import mesh.api.meta
    import mesh.api.pod

    scalars = {"str", "int", "bool", "time", "quantity", "int-or-string", "any"}
    for fields in KNOWN.values():
        for expression in fields.values():
            name = expression.removesuffix("[]").removesuffix("{}")
            known = name in scalars or name in KNOWN or hasattr(mesh.api.pod, name) or hasattr(mesh.api.meta, name)
            assert known, name
