"""Manifests as tests have them: files, YAML in the test itself, or objects made by code."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from mesh.cli.files import read_valid

Source = str | os.PathLike[str] | Mapping[str, Any]
"""A path of a file or a folder, YAML of several lines, or one object."""


def files_of(sources: Iterable[Source], folder: Path) -> list[str]:
    """Each as a file; what is none yet is written into `folder`."""
    return [_file(source, folder) for source in sources]


def manifests_of(sources: Iterable[Source], folder: Path) -> list[dict[str, Any]]:
    """All objects. Raises InvalidError with every problem of all of them."""
    return [dict(manifest.raw) for manifest in read_valid(files_of(sources, folder))]


def _file(source: Source, folder: Path) -> str:
    if isinstance(source, Mapping):
        text = yaml.safe_dump(dict(source))
    elif isinstance(source, str) and "\n" in source:
        text = source
    else:
        return os.fspath(source)
    file = folder / f"manifests-{len(list(folder.glob('manifests-*')))}.yaml"
    file.write_text(text)
    return str(file)
