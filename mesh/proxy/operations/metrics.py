"""Every sample of this sidecar: the data path's, the operations side's and the server's, as it is to be shown."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.proxy.observe.stats import Sample, Stats, merge
from mesh.proxy.observe.stats_view import StatsView
from mesh.proxy.operations import server_stats
from mesh.proxy.operations.configuration import Configuration
from mesh.proxy.operations.options import Options
from mesh.proxy.operations.plane import DataPlane
from mesh.proxy.operations.status import Status


@dataclass(frozen=True, slots=True)
class Metrics:
    plane: DataPlane
    stats: Stats
    status: Status
    options: Options
    configuration: Configuration
    view: StatsView

    async def samples(self) -> list[Sample]:
        """As they stand now."""
        server = server_stats.of(self.status, self.options.concurrency, self.configuration.accepted.secrets.values())
        merged = merge([await self.plane.samples(), self.stats.snapshot(), server])
        connections = sum(
            sample.value
            for sample in merged
            if sample.base == "listener.downstream_cx_active" and isinstance(sample.value, int)
        )
        total = Sample("server.total_connections", "server.total_connections", (), "gauge", connections)
        return self.view.of([*merged, total])
