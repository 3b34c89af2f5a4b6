"""Sends samples to a StatsD server, over UDP or TCP, now and then: Envoy's statsd, DogStatsD and Graphite sinks.

Counters go as what was added since the last time, gauges as they are. Histograms keep buckets and no single values:
each bucket that grew is sent once with its upper bound, and a sample rate that says how often it was hit.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from mesh.proxy import logs
from mesh.proxy.observe.stats import HistogramValue, Sample, Tags

_LOG = logs.logger("main")
_DATAGRAM = 512  # fits every path; a larger one would be cut into packets
_TIMEOUT_S = 5.0


class Dialect(Enum):
    """How tags are written; plain StatsD keeps them in the name."""

    PLAIN = "plain"
    DOG = "dog"
    GRAPHITE = "graphite"


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """One sink: `is_tcp` or UDP, what every name begins with, how many bytes go into a datagram (0: one line each)."""

    address: str
    port: int
    is_tcp: bool
    prefix: str
    dialect: Dialect
    datagram: int = _DATAGRAM


class Lines:
    """Samples as lines of StatsD; remembers what was sent, for counters and histograms."""

    def __init__(self, config: SinkConfig) -> None:
        self._config = config
        self._counters: dict[tuple[str, Tags], int] = {}
        self._buckets: dict[tuple[str, Tags], HistogramValue] = {}

    def of(self, samples: Iterable[Sample]) -> Iterator[bytes]:
        counters, buckets = {}, {}
        for sample in samples:
            key = (sample.name, sample.tags)
            if isinstance(sample.value, tuple):
                buckets[key] = sample.value
                yield from self._histogram(sample, sample.value, self._buckets.get(key))
            elif sample.kind == "counter":
                counters[key] = sample.value
                before = self._counters.get(key, 0)
                added = sample.value - before if sample.value >= before else sample.value  # it was reset
                if added:
                    yield self._line(sample, f"{added}|c")
            else:
                yield self._line(sample, f"{sample.value}|g")
        self._counters, self._buckets = counters, buckets

    def _histogram(self, sample: Sample, value: HistogramValue, before: HistogramValue | None) -> Iterator[bytes]:
        below = below_before = 0
        for index, (bound, cumulative) in enumerate((*value[2], (value[2][-1][0] if value[2] else 0, value[0]))):
            cumulative_before = 0
            if before is not None:
                cumulative_before = before[2][index][1] if index < len(before[2]) else before[0]
            grown = (cumulative - below) - (cumulative_before - below_before)
            if grown > 0:
                rate = f"|@{1 / grown:.6g}" if grown > 1 else ""
                yield self._line(sample, f"{bound:g}|ms{rate}")
            below, below_before = cumulative, cumulative_before

    def _line(self, sample: Sample, value: str) -> bytes:
        config = self._config
        if config.dialect is Dialect.PLAIN and not sample.is_plain:
            return f"{config.prefix}.{_clean(sample.name)}:{value}\n".encode()
        name = f"{config.prefix}.{_clean(sample.base)}"
        if config.dialect is Dialect.GRAPHITE:
            tags = "".join(f";{_clean(key)}={_clean(text)}" for key, text in sample.tags)
            return f"{name}{tags}:{value}\n".encode()
        tags = ",".join(f"{_clean(key)}:{_clean(text)}" for key, text in sample.tags)
        return f"{name}:{value}|#{tags}\n".encode() if tags else f"{name}:{value}\n".encode()


def _clean(text: str) -> str:
    """Without the letters that mean something in a line."""
    return text.replace(":", "_").replace("|", "_").replace("@", "_").replace("#", "_").replace("\n", "_")


def datagrams(lines: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Lines together as long as they fit into `size` bytes; each alone if that is 0."""
    gathered = b""
    for line in lines:
        if gathered and len(gathered) + len(line) > size:
            yield gathered.rstrip(b"\n")
            gathered = b""
        gathered += line
    if gathered:
        yield gathered.rstrip(b"\n")


class StatsdSink:
    """One StatsD server."""

    def __init__(self, config: SinkConfig) -> None:
        self._config = config
        self._lines = Lines(config)
        self._writer: asyncio.StreamWriter | None = None
        self._is_told = False

    async def send(self, samples: Iterable[Sample]) -> None:
        """What cannot be sent is lost, as it is with StatsD; the first time the log says so."""
        try:
            await (self._send_tcp if self._config.is_tcp else self._send_udp)(self._lines.of(samples))
            self._is_told = False
        except (OSError, TimeoutError) as error:
            self.close()
            if not self._is_told:
                self._is_told = True
                _LOG.warning("statsd at %s:%d: %s", self._config.address, self._config.port, error)

    def close(self) -> None:
        """End what is open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def _send_udp(self, lines: Iterable[bytes]) -> None:
        family = socket.AF_INET6 if ":" in self._config.address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            loop = asyncio.get_running_loop()
            for datagram in datagrams(lines, self._config.datagram):
                await loop.sock_sendto(sender, datagram, (self._config.address, self._config.port))

    async def _send_tcp(self, lines: Iterable[bytes]) -> None:
        async with asyncio.timeout(_TIMEOUT_S):
            if self._writer is None or self._writer.is_closing():
                _, self._writer = await asyncio.open_connection(self._config.address, self._config.port)
            self._writer.write(b"".join(lines))
            await self._writer.drain()


async def flush_for_ever(
    samples: Callable[[], Awaitable[list[Sample]]], sinks: Iterable[StatsdSink], interval_s: float
) -> None:
    """Send to every sink each `interval_s` seconds, until cancelled."""
    sinks = list(sinks)
    try:
        while True:
            await asyncio.sleep(interval_s)
            taken = await samples()
            for sink in sinks:
                await sink.send(taken)
    finally:
        for sink in sinks:
            sink.close()
