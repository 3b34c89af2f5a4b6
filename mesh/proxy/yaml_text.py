"""YAML text to plain values, and where in it a field stands.

Apart from `decode`, because a sidecar whose files are all JSON is not to carry a YAML parser.
"""

from __future__ import annotations

import re
from typing import Any

import yaml


class YamlError(ValueError):
    """The text is not YAML. `line` is where, 0 if that is not known."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.line = line


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_Loader):  # type: ignore[misc]
    """YAML with JSON's types only: a repeated key is an error and a date stays a string."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is repeated", key.start_mark)
            seen.add(key.value)
        built: dict[Any, Any] = super().construct_mapping(node, deep)
        return built


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def load(text: str) -> Any:
    """The values in `text`. Raises YamlError."""
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - derived from the safe loader
    except yaml.MarkedYAMLError as error:
        raise YamlError(str(error.problem), error.problem_mark.line + 1 if error.problem_mark else 0) from error
    except yaml.YAMLError as error:
        raise YamlError(str(error)) from error


def line_of(text: str, path: str) -> int:
    """The line where `path` (`static_resources.listeners[0]`) stands, or its nearest parent that can be found."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError:
        return 1
    for name, index in re.findall(r"(\w+)|\[(\d+)\]", path):
        child = _child(node, name, index)
        if child is None:
            break
        node = child
    return int(node.start_mark.line) + 1 if node else 1


def _child(node: Any, name: str, index: str) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return node.value[int(index)] if index and int(index) < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        keys = {name, re.sub(r"_(\w)", lambda m: m[1].upper(), name)}
        return next((value for key, value in node.value if key.value in keys), None)
    return None
