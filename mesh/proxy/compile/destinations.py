"""To which cluster a route forwards: a fixed one, one that a header names, or one of several by weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from mesh.proxy.compile.headers import Levels, header_edit
from mesh.proxy.compile.values import value_or
from mesh.proxy.fields import Place
from mesh.proxy.filters import registry
from mesh.proxy.http.hash_policy import HashKey
from mesh.proxy.http.route import WeightedCluster

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream

_R = "envoy.config.route.v3."
SUPPORTED = {
    _R + "WeightedCluster": frozenset(
        ("clusters", "total_weight", "runtime_key_prefix", "header_name", "use_hash_policy")
    ),
    _R + "WeightedCluster.ClusterWeight": frozenset(
        ("name", "cluster_header", "weight", "request_headers_to_add", "request_headers_to_remove",
         "response_headers_to_add", "response_headers_to_remove", "typed_per_filter_config", "host_rewrite_literal")
    ),
}  # fmt: skip

Pick = Callable[["Stream"], WeightedCluster]


def clusters(
    action: Any, key: HashKey | None, edits: Levels, place: Place
) -> tuple[WeightedCluster | None, Pick, frozenset[str]]:
    """The only cluster of a RouteAction if there is no choice, how to pick one, and the names known beforehand.

    `key` is the route's hash policy, `edits` what is said of its headers outside of the action. Raises Refused.
    """
    kind = action.WhichOneof("cluster_specifier")
    if kind in ("cluster", "cluster_header"):
        request, response = header_edit(edits.request), header_edit(edits.response)
        only = WeightedCluster(action.cluster, 1, request, response)
        if kind == "cluster_header":
            return None, _by_header(only, action.cluster_header), frozenset()
        return only, lambda stream: only, frozenset((action.cluster,))
    if kind != "weighted_clusters":
        raise place.refuse("one of cluster, cluster_header, weighted_clusters is required")
    inside = place.at("weighted_clusters")
    weighted = action.weighted_clusters
    found = [_weighted(each, edits, inside.at(f"clusters[{i}]")) for i, each in enumerate(weighted.clusters)]
    if sum(cluster.weight for cluster in found) == 0:
        raise inside.refuse("the sum of the weights must be greater than 0")
    names = frozenset(cluster.name for cluster in found if cluster.name)
    if len(found) == 1 and found[0].name:
        return found[0], lambda stream: found[0], names
    return None, _by_weight(found, [each.cluster_header for each in weighted.clusters], _selector(weighted, key)), names


def _weighted(cluster: Any, edits: Levels, place: Place) -> WeightedCluster:
    if bool(cluster.name) == bool(cluster.cluster_header):
        raise place.refuse("either name or cluster_header is required")
    own = registry.per_route(cluster.typed_per_filter_config, place)
    for name in own:
        if hasattr(own[name], "over"):
            raise place.refuse(
                "of a weighted cluster is not supported by this sidecar", f"typed_per_filter_config[{name}]"
            )
    of_request = cluster.request_headers_to_add, cluster.request_headers_to_remove, place
    of_response = cluster.response_headers_to_add, cluster.response_headers_to_remove, place
    return WeightedCluster(
        name=cluster.name,
        weight=value_or(cluster, "weight", 0),
        request_edit=header_edit((of_request, *edits.request)),
        response_edit=header_edit((of_response, *edits.response)),
        host_rewrite=cluster.host_rewrite_literal.encode() or None,
        filter_config=own,
        switches=registry.switches([cluster.typed_per_filter_config]) or None,
    )


def _by_header(named: WeightedCluster, header: str) -> Pick:
    """A request without the header goes to the cluster without a name, which there is not."""
    wanted = header.lower().encode()
    return lambda stream: replace(named, name=(stream.head.get(wanted) or b"").decode("latin-1"))


def _selector(weighted: Any, key: HashKey | None) -> Callable[[Stream], int]:
    """What falls into the weights: a header's number, the request's hash, or chance."""
    if weighted.header_name:
        name = weighted.header_name.lower().encode()

        def by_header(stream: Stream) -> int:
            text = stream.head.get(name)
            # Envoy takes an unsigned 64-bit decimal and falls back to chance for anything else.
            if text and text.isdigit() and len(text) <= _LONGEST_NUMBER and (number := int(text)) < 1 << 64:
                return number
            return stream.draw

        return by_header
    if value_or(weighted, "use_hash_policy", False) and key is not None:

        def by_hash(stream: Stream) -> int:
            edits = stream.response_edits
            value = key(stream)
            stream.response_edits = edits  # a cookie is made when the host is chosen, which is by the same key
            return stream.draw if value is None else value

        return by_hash
    return attrgetter("draw")


_LONGEST_NUMBER = 64  # digits, leading zeros among them


def _by_weight(found: Sequence[WeightedCluster], by_header: Sequence[str], select: Callable[[Stream], int]) -> Pick:
    picks = [_by_header(cluster, header) if header else None for cluster, header in zip(found, by_header, strict=True)]
    total = sum(cluster.weight for cluster in found)
    choices = tuple(zip(found, picks, strict=True))

    def pick(stream: Stream) -> WeightedCluster:
        value = select(stream) % total
        for cluster, pick_by_header in choices:
            value -= cluster.weight
            if value < 0:
                return cluster if pick_by_header is None else pick_by_header(stream)
        raise AssertionError("weights do not add up")

    return pick
