"""Every admin page by path."""

from __future__ import annotations

from itertools import chain

from mesh.proxy.operations.admin import (
    certs,
    clusters,
    config_dump,
    lifecycle,
    listeners,
    log_levels,
    ready,
    server_info,
    server_state,
    stats,
)
from mesh.proxy.operations.admin.index import with_index
from mesh.proxy.operations.admin.server import Pages

_FAMILIES = (certs, clusters, config_dump, lifecycle, listeners, log_levels, ready, server_info, server_state, stats)

PAGES: Pages = with_index({page.path: page for page in chain.from_iterable(family.PAGES for family in _FAMILIES)})
