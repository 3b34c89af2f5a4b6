"""Manifests from files, folders and standard input."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from mesh.cli.errors import Failure
from mesh.config.decode import Manifest, decode_text
from mesh.config.problems import InvalidError, Problem

_SUFFIXES = (".yaml", ".yml", ".json")
_MAX_BYTES = 16 * 1024 * 1024


def read_manifests(files: Iterable[str]) -> list[Manifest]:
    """All objects of the files, in their order. Raises InvalidError with every problem of all of them, and Failure."""
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    for name, text in read_texts(files):
        decoded = decode_text(text, name)
        manifests += decoded.manifests
        problems += decoded.problems
    if problems:
        raise InvalidError(tuple(problems))
    return manifests


def read_texts(files: Iterable[str]) -> list[tuple[str, str]]:
    """(name, text) of each file; `-` is standard input, a folder stands for the manifests right in it."""
    return [_read(file) for name in files for file in _unfolded(name)]


def _unfolded(name: str) -> Sequence[str]:
    path = Path(name)
    if name == "-" or not path.is_dir():
        return [name]
    found = sorted(str(file) for file in path.iterdir() if file.suffix in _SUFFIXES)
    if not found:
        raise Failure(f"{name}: no {', '.join(_SUFFIXES)} file in this folder")
    return found


def _read(name: str) -> tuple[str, str]:
    if name == "-":
        return "<stdin>", _decoded("<stdin>", sys.stdin.buffer.read(_MAX_BYTES + 1))
    with open(name, "rb") as file:
        return name, _decoded(name, file.read(_MAX_BYTES + 1))


def _decoded(name: str, data: bytes) -> str:
    if len(data) > _MAX_BYTES:
        raise Failure(f"{name}: larger than {_MAX_BYTES // 1024 // 1024} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Failure(f"{name}: not UTF-8 text: {error}") from error


def read_valid(files: Iterable[str]) -> list[Manifest]:
    """As `read_manifests`, and every object is valid by its kind's rules too."""
    from mesh.config.validate import validate  # noqa: PLC0415 - the rules are needed by some verbs only

    manifests = read_manifests(files)
    problems = [problem for manifest in manifests for problem in validate(manifest)]
    if problems:
        raise InvalidError(problems)
    return manifests
