"""Carries the store's changes to ADS, and ends faults whose lease is over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from mesh.api.meshdrill import Fault
from mesh.config.history import EventType, Subscription
from mesh.config.keys import key_of
from mesh.config.store import Store
from mesh.xds.ads.server import DiscoveryServer


async def publish_changes(changes: Subscription, ads: DiscoveryServer) -> None:
    """Hand `ads` every transaction, also one that shows no change: proxies are in sync with it all the same."""
    while True:
        # Several transactions may have come at once: of each object only what it is now counts.
        events = {key_of(event.manifest): event for event in await changes.advance()}.values()
        gone = [event.manifest.resource for event in events if event.type is EventType.DELETED]
        there = [event.manifest.resource for event in events if event.type is not EventType.DELETED]
        ads.change(there, gone, changes.version)


async def expire_leases(store: Store) -> None:
    """Lift each fault when its lease ends; sleeps until the first one does, or a fault changes."""
    faults = store.watch(match=lambda manifest: manifest.kind.type is Fault)
    while True:
        store.expire(datetime.now(UTC))
        first = store.next_expiry()
        left_s = None if first is None else max(0.0, (first - datetime.now(UTC)).total_seconds())
        try:
            async with asyncio.timeout(left_s):
                await faults.batch()
        except TimeoutError:
            continue
