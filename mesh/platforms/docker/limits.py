"""How much of the machine a container may have. Pure."""

import re
from decimal import Decimal

from mesh.api.fields import Quantity
from mesh.api.pod import Container
from mesh.platforms.base import PlatformError

_PERIOD_US = 100_000
_LEAST_QUOTA_US = 1_000
"""The kubelet's. They are given in place of the engine's count of CPUs, which must not be more than there are."""

_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(m|k|[MGTPE]|[KMGTPE]i)?")
_SUFFIXES = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(1000),
    **{letter: Decimal(1000**power) for power, letter in enumerate("MGTPE", start=2)},
    **{f"{letter}i": Decimal(1024**power) for power, letter in enumerate("KMGTPE", start=1)},
}


def limits_of(container: Container) -> dict[str, int]:
    """`resources.limits` of memory and CPU, as the engine's `create_host_config` takes them. Raises PlatformError."""
    memory, cpus = _limit(container, "memory"), _limit(container, "cpu")
    limits: dict[str, int] = {}
    if memory is not None:
        limits |= {"mem_limit": int(memory), "memswap_limit": int(memory)}
    if cpus is not None:
        limits |= {"cpu_period": _PERIOD_US, "cpu_quota": max(_LEAST_QUOTA_US, int(cpus * _PERIOD_US))}
    return limits


def quantity(value: Quantity) -> Decimal:
    """`500m` is 0.5 and `64Mi` 67108864. Raises ValueError."""
    found = _QUANTITY.fullmatch(str(value))
    if found is None:
        raise ValueError(f'"{value}" is no quantity such as 500m or 64Mi')
    return Decimal(found[1]) * _SUFFIXES[found[2] or ""]


def _limit(container: Container, resource: str) -> Decimal | None:
    written = container.resources.limits.get(resource)
    if written is None:
        return None
    place = f'container "{container.name}": resources.limits.{resource}'
    try:
        value = quantity(written)
    except ValueError as error:
        raise PlatformError(f"{place}: {error}") from error
    if value <= 0:
        raise PlatformError(f"{place} must be more than 0")
    return value
