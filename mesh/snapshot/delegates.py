"""VirtualServices put together with those that they delegate to, by Istio's `mergeVirtualServicesIfNeeded`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from mesh.api.virtual_service import (
    Destination,
    HeaderOperations,
    Headers,
    HTTPMatchRequest,
    HTTPRoute,
    StringMatch,
    VirtualService,
)
from mesh.registry.types import resolve_host
from mesh.snapshot.order import exported

_SINGLE: Final = ("uri", "scheme", "method", "authority")
_MAPS: Final = ("headers", "without_headers", "query_params")
_INHERITED: Final = (
    "rewrite", "timeout", "retries", "fault", "mirror", "mirror_percent", "mirror_percentage", "cors_policy",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Composed:
    """`whole` is what is in force; it was made from `parts`, of which the first is the root."""

    whole: VirtualService
    parts: tuple[VirtualService, ...]


def is_delegate(source: VirtualService) -> bool:
    """One without hosts is only there to be delegated to."""
    return not source.spec.hosts


def composed(sources: Iterable[VirtualService]) -> Iterator[Composed]:
    """Every root. A route whose delegate is missing, hidden, or never agrees with it falls away, as in Istio."""
    every = list(sources)
    delegates = {(own.namespace, own.name): own for own in every if is_delegate(own)}
    for root in every:
        if not is_delegate(root):
            yield _composed(root, delegates)


def _composed(root: VirtualService, delegates: Mapping[tuple[str, str], VirtualService]) -> Composed:
    if not any(route.delegate is not None for route in root.spec.http):
        return Composed(root, (root,))
    used: dict[tuple[str, str], VirtualService] = {}
    routes: list[HTTPRoute] = []
    for route in root.spec.http:
        if route.delegate is None:
            routes.append(route)
            continue
        key = route.delegate.namespace or root.namespace, route.delegate.name
        found = delegates.get(key)
        if found is not None and exported(found.spec.export_to, found.namespace, root.namespace):
            used[key] = found
            routes += (merged for own in found.spec.http if (merged := _merged(route, _absolute(own, key[0]))))
    whole = replace(root, spec=replace(root.spec, http=tuple(routes)))
    return Composed(whole, (root, *used.values()))


def _merged(root: HTTPRoute, own: HTTPRoute) -> HTTPRoute | None:
    """The delegate's route under the conditions of the root's; None if they cannot both hold."""
    matches = _matches(root.match, own.match)
    if not matches and (root.match or own.match):
        return None
    inherited = {name: getattr(own, name) or getattr(root, name) for name in _INHERITED}
    return replace(
        own,
        name=f"{root.name}-{own.name}" if own.name and root.name else own.name or root.name,
        match=matches,
        mirrors=own.mirrors or root.mirrors,
        headers=_headers(root.headers, own.headers),
        delegate=None,
        **inherited,
    )


def _matches(root: tuple[HTTPMatchRequest, ...], own: tuple[HTTPMatchRequest, ...]) -> tuple[HTTPMatchRequest, ...]:
    """Every condition of the one with every condition of the other that agrees with it."""
    if not root or not own:
        return own or root
    return tuple(_match(outer, inner) for outer, inner in product(root, own) if _agree(outer, inner))


def _match(outer: HTTPMatchRequest, inner: HTTPMatchRequest) -> HTTPMatchRequest:
    """The inner one is the narrower."""
    single = {name: getattr(inner, name) or getattr(outer, name) for name in _SINGLE}
    return replace(
        inner,
        name=f"{outer.name}-{inner.name}" if outer.name and inner.name else inner.name or outer.name,
        port=inner.port or outer.port,
        gateways=inner.gateways or outer.gateways,
        ignore_uri_case=inner.ignore_uri_case or outer.ignore_uri_case,
        source_namespace=inner.source_namespace or outer.source_namespace,
        stat_prefix=inner.stat_prefix or outer.stat_prefix,
        headers={**outer.headers, **inner.headers},
        without_headers={**outer.without_headers, **inner.without_headers},
        query_params={**outer.query_params, **inner.query_params},
        source_labels={**outer.source_labels, **inner.source_labels},
        **single,
    )


def _agree(outer: HTTPMatchRequest, inner: HTTPMatchRequest) -> bool:
    """Whether the inner conditions say nothing that the outer ones exclude."""
    if any(not _narrows(getattr(outer, name), getattr(inner, name)) for name in _SINGLE):
        return False
    for name in _MAPS:
        theirs: Mapping[str, StringMatch] = getattr(inner, name)
        if any(not _narrows(wanted, theirs.get(key)) for key, wanted in getattr(outer, name).items()):
            return False
    if outer.ignore_uri_case != inner.ignore_uri_case and outer.uri is not None and inner.uri is not None:
        return False
    labels = inner.source_labels
    if any(labels.get(key, value) != value for key, value in outer.source_labels.items()):
        return False
    if outer.gateways and inner.gateways and not set(inner.gateways) <= set(outer.gateways):
        return False
    places = ((outer.port, inner.port), (outer.source_namespace, inner.source_namespace))
    return all(not one or not other or one == other for one, other in places)


def _narrows(outer: StringMatch | None, inner: StringMatch | None) -> bool:
    """Whether the outer one matches whatever the inner one does. Of regular expressions that is known of equal ones."""
    if outer is None or inner is None or outer == inner:
        return True
    if outer.prefix is None:
        return outer == StringMatch()  # presence alone
    text = inner.exact if inner.exact is not None else inner.prefix
    return text is not None and text.startswith(outer.prefix)


def _headers(root: Headers | None, own: Headers | None) -> Headers | None:
    if root is None or own is None:
        return own or root
    return Headers(request=_edits(root.request, own.request), response=_edits(root.response, own.response))


def _edits(root: HeaderOperations | None, own: HeaderOperations | None) -> HeaderOperations | None:
    """The delegate's value of a header counts."""
    if root is None or own is None:
        return own or root
    return HeaderOperations(
        set={**root.set, **own.set}, add={**root.add, **own.add}, remove=(*root.remove, *own.remove)
    )


def _absolute(route: HTTPRoute, namespace: str) -> HTTPRoute:
    """Short names are the delegate's, whose namespace may be another."""

    def found(destination: Destination) -> Destination:
        return replace(destination, host=resolve_host(destination.host, namespace))

    return replace(
        route,
        match=tuple(
            replace(own, gateways=tuple(_gateway(name, namespace) for name in own.gateways)) for own in route.match
        ),
        route=tuple(replace(own, destination=found(own.destination)) for own in route.route),
        mirror=found(route.mirror) if route.mirror is not None else None,
        mirrors=tuple(replace(own, destination=found(own.destination)) for own in route.mirrors),
    )


def _gateway(name: str, namespace: str) -> str:
    return name if name == "mesh" or "/" in name else f"{namespace}/{name}"
