"""What a list says of an object that it does not name."""

import pytest

from mesh.platforms.node.watches import Listed


def pod(name: str, version: str) -> dict[str, dict[str, str]]:
    return {"metadata": {"name": name, "resourceVersion": version}}


@pytest.mark.parametrize(
    ("known", "lacks"),
    [
        (pod("web", "99"), False),  # it is there
        (pod("gone", "7"), True),
        (pod("gone", "20"), True),  # the last that was written before the list was taken
        (pod("new", "21"), False),  # written since: as a number, not as a word
        (pod("new", "101"), False),
    ],
)
def test_an_object_is_gone_when_a_list_that_is_no_older_does_not_name_it(
    known: dict[str, dict[str, str]], lacks: bool
) -> None:
    assert Listed("Pod", [pod("web", "3")], "20").lacks(known) is lacks
