"""YAML text to documents: scalars as kubectl reads them, lines, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mesh.config.documents import MAX_CHARACTERS, MAX_DEPTH, MAX_NODES, Document, read_documents


def only(text: str) -> Document:
    (document,), problems = read_documents(text)
    assert problems == []
    return document


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("abc", "abc"),
        ("12", 12),
        ("-7", -7),
        ("1_000", 1000),
        ("0x1f", 31),
        ("010", 8),
        ("0o17", 15),
        ("0b101", 5),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("12:30:45", "12:30:45"),
        ("2026-01-31", "2026-01-31"),
        ("1e999", "1e999"),
        ("'12'", "12"),
        ('"yes"', "yes"),
        ("!!str 12", "12"),
        ("1.2.3", "1.2.3"),
        ("0x", "0x"),
    ],
)
def test_scalars_are_read_as_kubectl_reads_them(written: str, value: Any) -> None:
    found = only(f"x: {written}").value["x"]
    assert (found, type(found)) == (value, type(value))


def test_every_key_and_item_has_its_line() -> None:
    source = only("a:\n  b:\n  - c: 1\n  - d:\n      e: 2\n").source
    assert source.line(("a", "b")) == 2
    assert source.line(("a", "b", 1, "d")) == 4
    assert source.line(("a", "b", 1, "d", "e")) == 5
    assert source.line(("a", "b", 1, "missing")) == 4


def test_several_documents_and_empty_ones() -> None:
    documents, problems = read_documents("---\na: 1\n---\n# nothing\n---\nb: 2\n")
    assert [document.value for document in documents] == [{"a": 1}, {"b": 2}]
    assert documents[1].source.line(("b",)) == 6
    assert problems == []


def test_json_is_yaml() -> None:
    assert only('{"a": [1, {"b": "x\\/y"}], "c": null}').value == {"a": [1, {"b": "x/y"}], "c": None}


def test_keys_are_strings_as_in_json() -> None:
    assert only("8080: x\ntrue: y").value == {"8080": "x", "true": "y"}


def test_a_key_given_twice_is_a_problem_at_the_second() -> None:
    (problem,) = only("a:\n  b: 1\n  b: 2\n").problems
    assert (problem.line, problem.path) == (3, "a.b")


def test_aliases_and_merge_keys_are_expanded() -> None:
    text = "base: &base {x: 1, y: 2}\nown:\n  <<: *base\n  y: 3\nlist: [*base]\n"
    assert only(text).value == {"base": {"x": 1, "y": 2}, "own": {"x": 1, "y": 3}, "list": [{"x": 1, "y": 2}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not YAML"),
        ("a: b: c", "not YAML"),
        ("\tx: 1", "not YAML"),
        ("a: \x00", "not YAML"),
        ("a: !!python/object:os.system x", "the tag"),
        ("a: *nobody", "not YAML|no anchor"),
        ("a: &a [*a]", "no anchor before it"),
        ("? [1, 2]\n: x", "a key must be a plain word"),
        ("a: 1\nb:\n  <<: 3\n", 'merge key "<<" takes a map'),
        ("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "nested deeper"),
    ],
)
def test_unreadable_text_is_one_problem(text: str, message: str) -> None:
    documents, problems = read_documents(text, "f.yaml")
    assert documents == []
    assert len(problems) == 1

    assert re.search(message, problems[0].message)
    assert problems[0].file == "f.yaml"


def test_documents_before_the_unreadable_place_are_kept() -> None:
    documents, problems = read_documents("a: 1\n---\nb: [\n")
    assert [document.value for document in documents] == [{"a": 1}]
    assert len(problems) == 1


def test_a_bomb_of_aliases_is_refused_before_it_grows() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    _, (problem,) = read_documents(bomb)
    assert f"more than {MAX_NODES} values" in problem.message


def test_a_tower_of_aliases_is_refused() -> None:
    tower = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, MAX_DEPTH + 2))
    _, (problem,) = read_documents(tower)
    assert "nested deeper" in problem.message


def test_a_huge_text_is_refused_unread() -> None:
    documents, (problem,) = read_documents("#" * (MAX_CHARACTERS + 1), "huge.yaml")
    assert documents == []
    assert str(problem) == "huge.yaml: larger than 4 MiB; split it"
