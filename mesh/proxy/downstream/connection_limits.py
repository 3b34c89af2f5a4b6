"""How many clients may be connected at once: to the whole proxy, and to one listener (Envoy's edge best practices)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.proxy.downstream.filter_chain import ListenerConfig


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`most` is that of all listeners together, `of_listener` is by name; None and what is not named have no limit."""

    most: int | None = None
    of_listener: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.most is not None or bool(self.of_listener)

    def refuses(self, config: ListenerConfig, everyone: Iterable[ListenerConfig]) -> bool:
        """Whether one more connection to a listener of `everyone` would be too many; counts it if so."""
        most = self.of_listener.get(config.name)
        if most is not None and _connected(config) >= most:
            config.stats.downstream_cx_overflow += 1
            return True
        if self.most is None or config.ignores_global_limit:
            return False
        if sum(map(_connected, everyone)) < self.most:
            return False
        config.stats.downstream_global_cx_overflow += 1
        return True


def _connected(config: ListenerConfig) -> int:
    return config.stats.downstream_cx_active + config.stats.downstream_pre_cx_active
