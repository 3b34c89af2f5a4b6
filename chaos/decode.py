"""YAML into frozen dataclasses, driven by their annotations; every problem is reported with its file, line and path.

Fields are camelCase in YAML and snake_case in Python. Supported: str, int, float, bool, `Seconds`, `Manifest`, tuples,
string-keyed dicts (order kept), Literals, optionals, dataclasses, and unions of dataclasses, which are written as a
mapping with the kind's name as its single key.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, NewType, get_args, get_origin

import yaml

from chaos.errors import BadDrill

Seconds = NewType("Seconds", float)
"""A duration, written as Kubernetes and Istio do: `7s`, `500ms`, `1m30s`."""


class Manifest(dict[str, Any]):
    """A Kubernetes or Istio resource as it is, for the control plane to validate. `place` is its file and line."""

    place: str = ""


MAX_BYTES = 1 << 20
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|h|m|s))+")
_SCALARS: Mapping[type, str] = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def duration(text: str) -> Seconds:
    """Seconds of a duration such as `1m30s`; raises ValueError for anything else."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration such as 7s, 500ms or 1m30s")
    return Seconds(sum(float(n) * _UNITS[unit] for n, unit in re.findall(r"([\d.]+)(ms|h|m|s)", text)))


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: what looks like a date is a string."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class Decoder:
    """Decodes the nodes of one file and collects its problems."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[str] = []

    def documents(self, text: str) -> list[yaml.Node]:
        """The file's YAML documents; raises BadDrill where it is not YAML, or too large."""
        if len(text.encode()) > MAX_BYTES:
            raise BadDrill([f"{self.file}: larger than {MAX_BYTES} bytes"])
        try:
            return [node for node in yaml.compose_all(text, _Loader) if node is not None]
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise BadDrill([f"{self.file}:{line}: {error.problem or 'not YAML'}"]) from error
        except yaml.YAMLError as error:
            raise BadDrill([f"{self.file}: {error}"]) from error

    def refuse(self, node: yaml.Node, path: str, text: str) -> None:
        """Notes a problem at a node."""
        self.problems.append(f"{self.file}:{node.start_mark.line + 1}: {path}: {text}")

    def value(self, node: yaml.Node, wanted: Any, path: str) -> Any:
        """The node as the wanted type; None where it is not one, with the problem noted."""
        origin = get_origin(wanted)
        if origin in (types.UnionType, typing.Union):
            return self._union(node, [kind for kind in get_args(wanted) if kind is not type(None)], path)
        if origin is Literal:
            return self._literal(node, get_args(wanted), path)
        if origin is tuple:
            return self._tuple(node, get_args(wanted)[0], path)
        if wanted is Manifest:
            return self._manifest(node, path)
        if origin is dict:
            return self._dict(node, get_args(wanted)[1], path)
        if dataclasses.is_dataclass(wanted):
            return self.record(node, typing.cast("type", wanted), path)
        return self._scalar(node, wanted, path)

    def record(self, node: yaml.Node, wanted: type, path: str) -> Any:
        """The mapping as that dataclass: unknown, repeated and missing fields are problems."""
        before = len(self.problems)
        pairs = self._pairs(node, path)
        if pairs is None:
            return None
        hints = typing.get_type_hints(wanted)
        fields = {_camel(field.name): field for field in dataclasses.fields(wanted)}
        found: dict[str, Any] = {}
        for name, (key, value) in pairs.items():
            if name not in fields:
                self.refuse(key, f"{path}.{name}", f"unknown field{_did_you_mean(name, fields)}")
                continue
            found[fields[name].name] = self.value(value, hints[fields[name].name], f"{path}.{name}")
        for name, field in fields.items():
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if required and name not in pairs:
                self.refuse(node, path, f"the field {name!r} is missing")
        # What has problems of its own has no value to check further.
        return None if len(self.problems) > before else self._build(node, wanted, found, path)

    def _build(self, node: yaml.Node, wanted: type, found: dict[str, Any], path: str) -> Any:
        try:
            return wanted(**found)
        except ValueError as error:
            self.refuse(node, path, str(error))
            return None

    def _union(self, node: yaml.Node, kinds: list[Any], path: str) -> Any:
        if len(kinds) == 1:
            return self.value(node, kinds[0], path)
        names = {_lower_first(kind.__name__): kind for kind in kinds}
        pairs = self._pairs(node, path)
        if pairs is None:
            return None
        if len(pairs) != 1 or next(iter(pairs)) not in names:
            self.refuse(
                node, path, f"exactly one of {', '.join(names)} is wanted{_did_you_mean(next(iter(pairs), ''), names)}"
            )
            return None
        name, (_, value) = next(iter(pairs.items()))
        return self.record(value, names[name], f"{path}.{name}")

    def _pairs(self, node: yaml.Node, path: str) -> dict[str, tuple[yaml.Node, yaml.Node]] | None:
        if not isinstance(node, yaml.MappingNode):
            self.refuse(node, path, "a mapping is wanted")
            return None
        pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.refuse(key, path, "keys are strings")
            elif key.value in pairs:
                self.refuse(key, f"{path}.{key.value}", "given twice")
            else:
                pairs[key.value] = (key, value)
        return pairs

    def _tuple(self, node: yaml.Node, item: Any, path: str) -> Any:
        if not isinstance(node, yaml.SequenceNode):
            self.refuse(node, path, "a list is wanted")
            return ()
        return tuple(self.value(child, item, f"{path}[{index}]") for index, child in enumerate(node.value))

    def _dict(self, node: yaml.Node, item: Any, path: str) -> Any:
        pairs = self._pairs(node, path) or {}
        return {name: self.value(value, item, f"{path}.{name}") for name, (_, value) in pairs.items()}

    def _literal(self, node: yaml.Node, choices: tuple[Any, ...], path: str) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.value in choices:
            return node.value
        self.refuse(node, path, f"one of {', '.join(map(str, choices))} is wanted")
        return None

    def _manifest(self, node: yaml.Node, path: str) -> Any:
        value = _construct(node)
        if not isinstance(value, dict) or not _names_itself(value):
            self.refuse(node, path, "a manifest with apiVersion, kind and metadata.name is wanted")
            return None
        manifest = Manifest(value)
        manifest.place = f"{self.file}:{node.start_mark.line + 1}"
        return manifest

    def _scalar(self, node: yaml.Node, wanted: Any, path: str) -> Any:
        value = _construct(node) if isinstance(node, yaml.ScalarNode) else None
        if wanted is Seconds:
            try:
                return duration(str(value))
            except ValueError as error:
                self.refuse(node, path, str(error))
                return None
        if wanted is float and type(value) is int:
            return float(value)
        if type(value) is not wanted:
            self.refuse(node, path, f"{_SCALARS[wanted]} is wanted")
        return value


def _names_itself(manifest: dict[str, Any]) -> bool:
    metadata = manifest.get("metadata")
    return {"apiVersion", "kind"} <= manifest.keys() and isinstance(metadata, dict) and bool(metadata.get("name"))


def _construct(node: yaml.Node) -> Any:
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _camel(name: str) -> str:
    head, *rest = name.rstrip("_").split("_")
    return head + "".join(part.title() for part in rest)


def _lower_first(name: str) -> str:
    return name[0].lower() + name[1:]


def _did_you_mean(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known)})"
