"""The table of fields that are not carried out. That it is complete is shown in `unit/xds/test_xds_fields.py`."""

from __future__ import annotations

import pytest
from xdskit.fields import spec_fields

from mesh.config.support import UNSUPPORTED, unsupported_fields


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_the_table_names_fields_that_exist(kind: str) -> None:
    known = {path.removesuffix("[]") for path, _, _ in spec_fields(kind)}
    assert [entry.path for entry in UNSUPPORTED[kind] if entry.path not in known] == []


def test_a_field_with_its_default_asks_for_nothing() -> None:
    spec = {"trafficPolicy": {"proxyProtocol": None, "portLevelSettings": [], "tunnel": {}}, "workloadSelector": None}
    found = [path for path, _ in unsupported_fields("DestinationRule", {"spec": spec})]
    assert found == [("spec", "trafficPolicy", "tunnel")]
