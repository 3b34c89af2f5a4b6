"""What `proxy-status` and `apply --wait` are told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mesh.xds.ads.stream import Stream
from mesh.xds.ads.subscription import Subscription
from mesh.xds.types import XdsType


class TypeState(StrEnum):
    """istioctl's words."""

    SYNCED = "SYNCED"
    STALE = "STALE"
    NACK = "NACK"
    NOT_SENT = "NOT SENT"


class SyncState(StrEnum):
    """How a wait ended."""

    SYNCED = "SYNCED"
    TIMEOUT = "TIMEOUT"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """One type of one proxy. `sent`, `acked` and `nacked` are versions, empty if there was none."""

    type: str
    state: TypeState
    sent: str
    acked: str
    nacked: str
    error: str
    error_at: datetime | None


@dataclass(frozen=True, slots=True)
class ProxyStatus:
    """One connected proxy. `synced_version` is the store's version that all it has taken follows from."""

    id: str
    node_id: str
    address: str
    connected_since: datetime
    types: tuple[TypeStatus, ...]
    synced_version: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """A proxy that will not take what follows from the version that was waited for."""

    proxy: str
    type: str
    message: str


@dataclass(frozen=True, slots=True)
class SyncResult:
    """`late` are the proxies that have not answered, or the control plane itself."""

    state: SyncState
    late: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()


def type_statuses(stream: Stream) -> tuple[TypeStatus, ...]:
    """Secrets are told of where a proxy asks for any: most have their own from their agent."""
    found = stream.subscriptions.items()
    return tuple(_type_status(type_, own) for type_, own in found if own.asked or type_ is not XdsType.SDS)


def rejections(proxy: str, stream: Stream, version: int) -> Iterable[Rejection]:
    """Refusals of what the proxy was offered at `version` or after, once it has been offered all of it."""
    if stream.is_settled and stream.offered_version >= version:
        for type_, nack in stream.nacks.items():
            yield Rejection(proxy, type_.value, nack.message)


def _type_status(type_: XdsType, own: Subscription) -> TypeStatus:
    return TypeStatus(
        type=type_.value,
        state=_state(own),
        sent=own.sent_version,
        acked=own.acked_version,
        nacked=own.nack.version if own.nack else "",
        error=own.nack.message if own.nack else "",
        error_at=own.nack.at if own.nack else None,
    )


def _state(own: Subscription) -> TypeState:
    if own.nack is not None:
        return TypeState.NACK
    if not own.sent_version:
        return TypeState.SYNCED if own.resumed else TypeState.NOT_SENT
    return TypeState.STALE if own.in_flight else TypeState.SYNCED
