"""From HttpConnectionManager to the steps that prepare a request's head."""

from __future__ import annotations

from typing import Any

from mesh.proxy.fields import Place
from mesh.proxy.http import preparation
from mesh.proxy.http.preparation import Prepare
from mesh.proxy.http1.path import normalizer
from mesh.proxy.observe.downstream_counters import Http1Stats
from mesh.proxy.observe.stats import Stats

_REJECT_UNDERSCORES, _DROP_UNDERSCORES = 1, 2  # HeadersWithUnderscoresAction
_REJECT_ESCAPES, _REDIRECT_ESCAPES, _FORWARD_ESCAPES = 2, 3, 4  # PathWithEscapedSlashesAction


def compile_preparation(config: Any, stats: Stats, place: Place) -> tuple[Prepare, ...]:
    """In Envoy's order: header names, host, path. Raises Refused."""
    steps: list[Prepare] = []
    underscores = config.common_http_protocol_options.headers_with_underscores_action
    if underscores == _REJECT_UNDERSCORES:
        steps.append(preparation.rejected_underscores(stats.group(Http1Stats, "http1")))
    elif underscores == _DROP_UNDERSCORES:
        steps.append(preparation.dropped_underscores(stats.group(Http1Stats, "http1")))
    if config.use_remote_address.value and not config.xff_num_trusted_hops:
        steps.append(preparation.rejected_https_target)
    if config.strip_trailing_host_dot:
        steps.append(preparation.without_trailing_dot)
    if config.strip_matching_host_port and config.strip_any_host_port:
        raise place.refuse("not together with strip_matching_host_port", "strip_any_host_port")
    if config.strip_matching_host_port or config.strip_any_host_port:
        steps.append(preparation.without_port(only_ours=config.strip_matching_host_port))
    normalize = normalizer(normalize=config.normalize_path.value, merge_slashes=config.merge_slashes)
    escapes = config.path_with_escaped_slashes_action
    if escapes == _REJECT_ESCAPES:
        steps.append(preparation.rejected_escapes)
    if escapes in (_REDIRECT_ESCAPES, _FORWARD_ESCAPES):
        steps.append(preparation.unescaped(normalize, redirects=escapes == _REDIRECT_ESCAPES))
    elif normalize is not None:
        steps.append(preparation.normalized(normalize))
    return tuple(steps)
