"""Kinds and their REST paths; the table must name what the control plane serves."""

import pytest

from mesh.api import kinds as served
from mesh.client import KINDS, MeshError, find_kind


def test_names_exactly_what_the_control_plane_serves() -> None:
    ours = {(kind.name, kind.api_version, kind.plural, kind.namespaced) for kind in KINDS}
    assert ours == {(kind.name, kind.api_version, kind.plural, kind.namespaced) for kind in served.KINDS}


@pytest.mark.parametrize("word", ["VirtualService", "virtualservice", "virtualservices", "vs", "VS"])
def test_is_found_by_any_of_its_names(word: str) -> None:
    assert find_kind(word).name == "VirtualService"


def test_an_unknown_word_lists_those_known() -> None:
    with pytest.raises(MeshError, match=r"no kind 'gadget'; there are .*VirtualService \(vs\)"):
        find_kind("gadget")


def test_paths_are_those_of_kubernetes() -> None:
    assert find_kind("po").path() == "/api/v1/pods"
    assert find_kind("po").path("default", "a") == "/api/v1/namespaces/default/pods/a"
    assert find_kind("vs").path("x") == "/apis/networking.istio.io/v1/namespaces/x/virtualservices"
    assert find_kind("ns").path("ignored", "x") == "/api/v1/namespaces/x"
    assert find_kind("po").path("a/b", "../c?d") == "/api/v1/namespaces/a%2Fb/pods/..%2Fc%3Fd"
