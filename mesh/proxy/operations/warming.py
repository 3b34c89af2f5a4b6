"""Which of the accepted resources may serve: those whose references have all arrived, or are waited for no more.

An update that is not warm yet leaves the version before it in service, as Envoy does. MUST NOT do I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from mesh.proxy.operations import references
from mesh.proxy.operations.references import CLUSTER, LISTENER, Name, Reference
from mesh.proxy.resources import Resources

MessageT = TypeVar("MessageT", bound=Any)


class References:
    """The references of listeners and clusters, read once a message."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, frozenset[Reference]]] = {}

    def of(self, resources: Resources) -> dict[Name, frozenset[Reference]]:
        """By (kind, name) of the resource that refers. Forgets messages that are not in `resources`."""
        before, self._known = self._known, {}
        found: dict[Name, frozenset[Reference]] = {}
        kinds: tuple[tuple[Any, Mapping[str, Any], Callable[[Any], frozenset[Reference]]], ...] = (
            (LISTENER, resources.listeners, references.of_listener),
            (CLUSTER, resources.clusters, references.of_cluster),
        )
        for kind, messages, read in kinds:
            for name, message in messages.items():
                # The message is kept beside its id, so the id cannot be taken over by another.
                entry = before.get(id(message)) or (message, read(message))
                self._known[id(message)] = entry
                found[kind, name] = entry[1]
        return found


@dataclass(frozen=True, slots=True)
class Warmth:
    """`active` may serve; `cold` are the (kind, name) of listeners and clusters that still wait for something."""

    active: Resources
    cold: frozenset[Name]


def warm(
    accepted: Resources,
    before: Resources,
    needs: Mapping[Name, Collection[Reference]],
    expired: Collection[Name],
) -> Warmth:
    """Split `accepted` by warmth. `before` is what serves now, `expired` the references waited for long enough."""
    arrived = {**_names(references.ROUTE, accepted.routes), **_names(references.ENDPOINT, accepted.endpoints),
               **_names(references.SECRET, accepted.secrets)}  # fmt: skip

    def is_warm(name: Name) -> bool:
        return all((need.kind, need.name) in arrived or (need.kind, need.name) in expired for need in needs[name])

    cold = frozenset(name for name in needs if not is_warm(name))
    active = replace(
        accepted,
        listeners=_serving(LISTENER, accepted.listeners, before.listeners, cold),
        clusters=_serving(CLUSTER, accepted.clusters, before.clusters, cold),
        expected={name: message for name, message in accepted.clusters.items() if (CLUSTER, name) in cold},
    )
    return Warmth(active, cold)


def _names(kind: references.Kind, messages: Mapping[str, Any]) -> dict[Name, None]:
    return dict.fromkeys((kind, name) for name in messages)


def _serving(
    kind: references.Kind, accepted: Mapping[str, MessageT], before: Mapping[str, MessageT], cold: Collection[Name]
) -> Mapping[str, MessageT]:
    if not any((kind, name) in cold for name in accepted):
        return accepted
    chosen = ((name, before.get(name) if (kind, name) in cold else message) for name, message in accepted.items())
    return {name: message for name, message in chosen if message is not None}
