"""What of a configuration dump was asked for: `resource`, `mask` and `name_regex` of `/config_dump`.

Pure: trees of the dump in, trees out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import re2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.field_mask_pb2 import FieldMask

from mesh.proxy.operations.admin.page import BadQuery

_ADMIN = "type.googleapis.com/envoy.admin.v3."
_PACKED = "google.protobuf.Any"
_HOLDERS = ("cluster", "listener", "route_config", "endpoint_config", "secret")

Tree = dict[str, Any]
Named = Callable[[str], object]


class UnknownResource(BadQuery):
    """No dump has a field of that name; goes out with 404."""


def select(configs: Iterable[Tree], query: Mapping[str, str]) -> list[Tree]:
    """The dumps, or the elements of the one repeated field that `resource` names. Raises BadQuery, UnknownResource."""
    named = _name_matcher(query)
    mask = query.get("mask", "")
    resource = query.get("resource", "")
    trees = [_with_names(config, named) for config in configs] if named is not None else list(configs)
    if not resource:
        return _masked_dumps(trees, mask) if mask else trees
    element = _element(resource)
    found = [{"@type": f"{_ADMIN}{_short(element)}", **each} for tree in trees for each in tree.get(resource, [])]
    if not mask:
        return found
    paths = mask.split(",")
    if not all(_reaches(path, element, each) for each in found for path in paths):
        said = "\n".join(f'paths: "{path}"' for path in paths)
        raise BadQuery(f"FieldMask \n{said}\n could not be successfully used.")
    return [_masked(each, mask) for each in found]


def _short(message: Descriptor) -> str:
    return str(message.full_name.removeprefix("envoy.admin.v3."))


def _dumps() -> list[Descriptor]:
    # Loaded here: few ask for a part of the dump, and the messages are large.
    from envoy.admin.v3 import config_dump_pb2, config_dump_shared_pb2  # noqa: PLC0415

    return [
        config_dump_pb2.BootstrapConfigDump.DESCRIPTOR,
        config_dump_shared_pb2.ClustersConfigDump.DESCRIPTOR,
        config_dump_shared_pb2.EndpointsConfigDump.DESCRIPTOR,
        config_dump_shared_pb2.ListenersConfigDump.DESCRIPTOR,
        config_dump_shared_pb2.RoutesConfigDump.DESCRIPTOR,
        config_dump_pb2.SecretsConfigDump.DESCRIPTOR,
    ]


def _element(resource: str) -> Descriptor:
    """The message of a dump's repeated field."""
    for dump in _dumps():
        field: FieldDescriptor | None = dump.fields_by_name.get(resource)
        if field is None:
            continue
        if field.message_type is None or not _is_repeated(field):
            raise BadQuery(f"{resource} is not a repeated field. Use ?mask={resource} to get only this field")
        return field.message_type
    raise UnknownResource(f"{resource} not found in config dump")


def _is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _masked_dumps(trees: Iterable[Tree], mask: str) -> list[Tree]:
    """What the mask leaves of those dumps that have all which it names."""
    messages = {f"{_ADMIN}{_short(dump)}": dump for dump in _dumps()}
    masks = FieldMask(paths=mask.split(","))
    kept = [_masked(tree, mask) for tree in trees if masks.IsValidForDescriptor(messages[tree["@type"]])]
    if not kept:
        raise BadQuery(f"FieldMask {mask} could not be successfully applied to any configs.")
    return kept


def _reaches(path: str, element: Descriptor, tree: Tree) -> bool:
    """Whether a mask may name this of an element; of a resource in it, which is packed, only parts may be named."""
    name, _, deeper = path.partition(".")
    field = element.fields_by_name.get(name)
    if field is None or field.message_type is None or field.message_type.full_name != _PACKED or name not in tree:
        return FieldMask(paths=[path]).IsValidForDescriptor(element)
    resource = Default().FindMessageTypeByName(tree[name]["@type"].rpartition("/")[2])
    return bool(deeper) and FieldMask(paths=[deeper]).IsValidForDescriptor(resource)


def _masked(tree: Tree, mask: str) -> Tree:
    kept: Tree = {name: tree[name] for name in ("@type",) if name in tree}
    for path in mask.split(","):
        _keep(tree, kept, path.split("."))
    return kept


def _keep(tree: Tree, kept: Tree, path: list[str]) -> None:
    name, *deeper = path
    if name not in tree:
        return
    value = tree[name]
    if not deeper or not isinstance(value, dict):
        kept[name] = value
        return
    inner = kept.setdefault(name, {"@type": value["@type"]} if "@type" in value else {})
    _keep(value, inner, deeper)


def _name_matcher(query: Mapping[str, str]) -> Named | None:
    pattern = query.get("name_regex", "")
    if not pattern:
        return None
    options = re2.Options()
    options.log_errors = False
    try:
        matches: Named = re2.compile(pattern, options).fullmatch
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        raise BadQuery(f"INVALID_ARGUMENT: Error while parsing name_regex from {pattern}: {reason}") from error
    return matches


def _with_names(config: Tree, named: Named) -> Tree:
    return {
        key: [each for each in value if named(_name(each))] if isinstance(value, list) else value
        for key, value in config.items()
    }


def _name(element: Tree) -> str:
    if "name" in element:
        return str(element["name"])
    for holder in _HOLDERS:
        if holder in element:
            held = element[holder]
            return str(held.get("name") or held.get("cluster_name") or "")
    return ""
