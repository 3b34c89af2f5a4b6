"""Plain documents to typed objects, driven by the annotations of `mesh.api`.

Every problem of a text is reported, each with its line. Nothing is coerced: a number where a string belongs is an
error, as on a strict cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mesh.api.kinds import Kind, UnknownKindError, by_api_version
from mesh.api.meta import DEFAULT_NAMESPACE, Resource
from mesh.config.codec import decoder_of
from mesh.config.documents import MAX_DEPTH, Document, read_documents
from mesh.config.problems import InvalidError, Problem, ProblemList, Source


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object in both forms: `resource` is what we understood, `raw` is what was written, as plain JSON data.

    `raw` names its namespace even where the text left it out. Neither may be mutated.
    """

    resource: Resource
    raw: Mapping[str, Any]
    kind: Kind
    source: Source = field(default_factory=Source)

    def __str__(self) -> str:
        meta = self.resource.metadata
        return f"{self.kind.name} {meta.namespace}/{meta.name}" if meta.namespace else f"{self.kind.name} {meta.name}"


@dataclass(frozen=True, slots=True)
class Decoded:
    """The objects of a text that could be read, and every problem of the others."""

    manifests: tuple[Manifest, ...]
    problems: tuple[Problem, ...]


def decode_text(text: str, file: str = "", namespace: str = DEFAULT_NAMESPACE) -> Decoded:
    """All objects of YAML or JSON text, `kind: List` unfolded; `namespace` is for those that name none."""
    documents, unreadable = read_documents(text, file)
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    for document in documents:
        problems += document.problems
        for value, source in _objects(document):
            manifest, found = _decode(value, source, namespace)
            problems += found
            if manifest is not None and not document.problems:
                manifests.append(manifest)
    return Decoded(tuple(manifests), (*problems, *unreadable))


def decode_object(value: object, namespace: str = DEFAULT_NAMESPACE, source: Source | None = None) -> Manifest:
    """One object from plain JSON data. Raises InvalidError with every problem."""
    if _deeper_than(value, MAX_DEPTH):
        raise InvalidError([Problem(f"nested deeper than {MAX_DEPTH} levels")])
    manifest, problems = _decode(value, source or Source(), namespace)
    if manifest is None:
        raise InvalidError(problems)
    return manifest


def _deeper_than(value: object, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
        if not layer:
            return False
    return True


def _objects(document: Document) -> list[tuple[Any, Source]]:
    value, source = document.value, document.source
    if isinstance(value, dict) and value.get("kind") == "List" and isinstance(value.get("items"), list):
        return [
            (item, Source(source.file, source.lines, ("items", index))) for index, item in enumerate(value["items"])
        ]
    return [(value, source)]


def _decode(value: object, source: Source, namespace: str) -> tuple[Manifest | None, tuple[Problem, ...]]:
    problems = ProblemList(source)
    kind = _kind(value, problems)
    if kind is None or not isinstance(value, dict):
        return None, problems.all()
    raw = _placed(value, kind, namespace)
    problems.resource = _label(raw, kind)
    body = {key: inner for key, inner in raw.items() if key != "kind"}
    resource = decoder_of(kind.type)(body, (), problems)
    _check_identity(raw, kind, problems)
    if len(problems) or not isinstance(resource, Resource):
        return None, problems.all()
    if not kind.namespaced:
        resource = replace(resource, metadata=replace(resource.metadata, namespace=""))
    return Manifest(resource, raw, kind, source), ()


def _kind(value: object, problems: ProblemList) -> Kind | None:
    if not isinstance(value, dict):
        problems.add((), "must be an object with apiVersion, kind and metadata")
        return None
    for key in ("apiVersion", "kind"):
        if not isinstance(value.get(key), str) or not value[key]:
            problems.add((key,) if key in value else (), f"{key} is required and is a string")
    if len(problems):
        return None
    try:
        return by_api_version(value["apiVersion"], value["kind"])
    except UnknownKindError as error:
        problems.add(("apiVersion",) if "not served" in str(error) else ("kind",), str(error))
        return None


def _placed(value: dict[str, Any], kind: Kind, namespace: str) -> dict[str, Any]:
    """The document with its namespace written out, so that its raw form is complete on its own."""
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return value
    if kind.namespaced and metadata.get("namespace") in (None, ""):
        return {**value, "metadata": {**metadata, "namespace": namespace}}
    return value


def _label(raw: Mapping[str, Any], kind: Kind) -> str:
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict):
        return kind.name
    parts = [str(metadata[key]) for key in ("namespace", "name") if metadata.get(key)]
    return f"{kind.name} {'/'.join(parts)}".rstrip()


def _check_identity(raw: Mapping[str, Any], kind: Kind, problems: ProblemList) -> None:
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict):
        return
    if metadata.get("name") in (None, ""):
        problems.add(("metadata",), "name is required")
    if not kind.namespaced and metadata.get("namespace"):
        problems.add(("metadata", "namespace"), f"{kind.name} is not namespaced; leave the namespace out")
