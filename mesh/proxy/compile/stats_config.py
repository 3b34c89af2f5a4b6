"""`Bootstrap.stats_config` to StatsView."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from envoy.config.metrics.v3.stats_pb2 import StatsConfig

from mesh.proxy.compile.values import STRING_MATCHER, string_match
from mesh.proxy.fields import Place, check
from mesh.proxy.observe.stats_view import StatsView, TagRule

_M = "envoy.config.metrics.v3."
SUPPORTED: Mapping[str, frozenset[str]] = {
    _M + "StatsConfig": frozenset(("stats_tags", "use_all_default_tags", "stats_matcher")),
    _M + "TagSpecifier": frozenset(("tag_name", "regex", "fixed_value")),
    _M + "StatsMatcher": frozenset(("reject_all", "exclusion_list", "inclusion_list")),
    "envoy.type.matcher.v3.ListStringMatcher": frozenset(("patterns",)),
    **STRING_MATCHER,
}


def compile_view(config: StatsConfig, place: Place) -> StatsView:
    """Raises Refused."""
    check(config, SUPPORTED, place)
    tags = tuple(_tag(each, place.at(f"stats_tags[{index}]")) for index, each in enumerate(config.stats_tags))
    with_defaults = config.use_all_default_tags.value if config.HasField("use_all_default_tags") else True
    return StatsView(tags, with_defaults=with_defaults, shows=_shows(config.stats_matcher, place.at("stats_matcher")))


def _tag(config: Any, place: Place) -> TagRule:
    if config.fixed_value:
        return TagRule(config.tag_name, constant=config.fixed_value)
    if not config.regex:
        return TagRule(config.tag_name)
    try:
        regex = re.compile(config.regex)
    except re.error as error:
        raise place.refuse(f"bad regex {config.regex!r}: {error}", "regex") from error
    if not regex.groups:
        raise place.refuse("a group is required: what it matches is taken out of the name", "regex")
    return TagRule(config.tag_name, regex)


def _shows(config: Any, place: Place) -> Callable[[str], bool] | None:
    kind = config.WhichOneof("stats_matcher")
    if kind is None:
        return None
    if kind == "reject_all":
        rejected = config.reject_all
        return lambda name: not rejected
    patterns = [
        string_match(each, place.at(f"{kind}.patterns[{index}]"))
        for index, each in enumerate(getattr(config, kind).patterns)
    ]
    included = kind == "inclusion_list"

    def shows(name: str) -> bool:
        value = name.encode()
        return any(match(value) for match in patterns) == included

    return shows
