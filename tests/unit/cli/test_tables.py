from datetime import UTC, datetime, timedelta

import pytest

from mesh.cli.tables import age, dumped, table

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_columns_are_as_wide_as_their_widest_cell_and_lines_end_with_their_text() -> None:
    assert table(["NAME", "N"], [["a", 1], ["longer", 10]]) == "NAME     N\na        1\nlonger   10"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (90000, "1d"), (-5, "0s")],
)
def test_ages_are_short(seconds: int, expected: str) -> None:
    assert age((NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z"), NOW) == expected


def test_an_age_nobody_knows_is_told_so() -> None:
    assert age(None, NOW) == "<unknown>"


def test_documents_come_as_json_or_yaml_in_their_order() -> None:
    value = {"b": 1, "a": ["ä"]}
    assert dumped(value, "yaml") == "b: 1\na:\n- ä"
    assert '"b": 1' in dumped(value, "json")
