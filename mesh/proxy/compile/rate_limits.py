"""Rate limits of routes and virtual hosts: their actions to functions of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from mesh.proxy.compile.matchers import header_match, query_match, query_value
from mesh.proxy.compile.values import value_or
from mesh.proxy.fields import Place
from mesh.proxy.policy.rate_limits import Action, RateLimit, source_cluster

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream

_R = "envoy.config.route.v3.RateLimit"
SUPPORTED = {
    _R: frozenset(("stage", "actions", "hits_addend")),
    _R + ".HitsAddend": frozenset(("number",)),
    _R + ".Action": frozenset(
        ("source_cluster", "destination_cluster", "request_headers", "query_parameters", "remote_address",
         "generic_key", "header_value_match", "dynamic_metadata", "metadata", "masked_remote_address",
         "query_parameter_value_match")
    ),
    _R + ".Action.SourceCluster": frozenset(),
    _R + ".Action.DestinationCluster": frozenset(),
    _R + ".Action.RemoteAddress": frozenset(),
    _R + ".Action.RequestHeaders": frozenset(("header_name", "descriptor_key", "skip_if_absent")),
    _R + ".Action.QueryParameters": frozenset(("query_parameter_name", "descriptor_key", "skip_if_absent")),
    _R + ".Action.MaskedRemoteAddress": frozenset(("v4_prefix_mask_len", "v6_prefix_mask_len")),
    _R + ".Action.GenericKey": frozenset(("descriptor_value", "descriptor_key")),
    _R + ".Action.HeaderValueMatch": frozenset(("descriptor_key", "descriptor_value", "expect_match", "headers")),
    _R + ".Action.QueryParameterValueMatch": frozenset(
        ("descriptor_key", "descriptor_value", "expect_match", "query_parameters")
    ),
    _R + ".Action.DynamicMetaData": frozenset(("descriptor_key", "metadata_key", "default_value")),
    _R + ".Action.MetaData": frozenset(("descriptor_key", "metadata_key", "default_value", "skip_if_absent")),
    "envoy.type.metadata.v3.MetadataKey": frozenset(("key", "path")),
    "envoy.type.metadata.v3.MetadataKey.PathSegment": frozenset(("key",)),
}  # fmt: skip
_MAX_STAGE = 10


def rate_limits(limits: Iterable[Any], place: Place) -> tuple[RateLimit, ...]:
    """Raises Refused."""
    return tuple(_rate_limit(each, place.at(f"rate_limits[{i}]")) for i, each in enumerate(limits))


def _rate_limit(limit: Any, place: Place) -> RateLimit:
    stage = value_or(limit, "stage", 0)
    if stage > _MAX_STAGE:
        raise place.refuse(f"at most {_MAX_STAGE} is allowed", "stage")
    actions = tuple(_action(each, place.at(f"actions[{i}]")) for i, each in enumerate(limit.actions))
    if not actions:
        raise place.refuse("at least one is required", "actions")
    return RateLimit(stage, actions, limit.hits_addend.number.value if limit.hits_addend.HasField("number") else None)


def _action(action: Any, place: Place) -> Action:
    kind = action.WhichOneof("action_specifier")
    inside = place.at(kind or "")
    if kind == "source_cluster":
        return source_cluster
    if kind == "destination_cluster":
        return lambda stream: ("destination_cluster", stream.cluster_name)
    if kind == "remote_address":
        return lambda stream: ("remote_address", _ip(stream))
    make = _MAKERS.get(kind or "")
    if make is None:
        raise place.refuse("one action is required")
    return make(getattr(action, kind or ""), inside)


def _ip(stream: Stream) -> str:
    return stream.remote_address.rpartition(":")[0].strip("[]")


def _masked(config: Any, place: Place) -> Action:
    v4, v6 = value_or(config, "v4_prefix_mask_len", 32), value_or(config, "v6_prefix_mask_len", 128)

    def mask(stream: Stream) -> tuple[str, str]:
        ip = _ip(stream)
        return "masked_remote_address", str(ip_network(f"{ip}/{v6 if ':' in ip else v4}", strict=False))

    return mask


def _of_header(config: Any, place: Place) -> Action:
    key, name = config.descriptor_key, config.header_name.lower().encode()
    absent = () if config.skip_if_absent else None
    pseudo = {b":authority": "authority", b":method": "method", b":path": "target"}.get(name)
    if pseudo is not None:
        return lambda stream: (key, getattr(stream.head, pseudo).decode("latin-1"))
    return lambda stream: (key, value.decode("latin-1")) if (value := stream.head.get(name)) is not None else absent


def _of_parameter(config: Any, place: Place) -> Action:
    key, name = config.descriptor_key, config.query_parameter_name.encode()
    absent = () if config.skip_if_absent else None
    return lambda stream: (
        (key, value.decode("latin-1")) if (value := query_value(stream.head.target, name)) is not None else absent
    )


def _generic(config: Any, place: Place) -> Action:
    entry = (config.descriptor_key or "generic_key", config.descriptor_value)
    return lambda stream: entry


def _header_value(config: Any, place: Place) -> Action:
    conditions = [header_match(each, place.at(f"headers[{i}]")) for i, each in enumerate(config.headers)]
    return _matched(config, "header_match", conditions)


def _query_value(config: Any, place: Place) -> Action:
    parameters = enumerate(config.query_parameters)
    conditions = [query_match(each, place.at(f"query_parameters[{i}]")) for i, each in parameters]
    return _matched(config, "query_match", conditions)


def _matched(config: Any, default_key: str, conditions: list[Callable[[Any], bool]]) -> Action:
    entry = (config.descriptor_key or default_key, config.descriptor_value)
    expected = value_or(config, "expect_match", True)
    return lambda stream: entry if all(holds(stream.head) for holds in conditions) == expected else None


def _of_metadata(config: Any, place: Place) -> Action:
    key, path = config.descriptor_key, (config.metadata_key.key, *(each.key for each in config.metadata_key.path))
    default = config.default_value
    absent = () if getattr(config, "skip_if_absent", False) else None

    def look(stream: Stream) -> tuple[str, str] | tuple[()] | None:
        value: Any = stream.metadata
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        text = value if isinstance(value, str) and value else default
        return (key, text) if text else absent

    return look


_MAKERS: dict[str, Callable[[Any, Place], Action]] = {
    "masked_remote_address": _masked,
    "request_headers": _of_header,
    "query_parameters": _of_parameter,
    "generic_key": _generic,
    "header_value_match": _header_value,
    "query_parameter_value_match": _query_value,
    "dynamic_metadata": _of_metadata,
    "metadata": _of_metadata,
}
