"""When packets may go on, with time given by hand."""

import random
from datetime import timedelta

from mesh.api.pod_fault import Bandwidth, Delay
from mesh.platforms.netns.faults.shaper import BACKLOG_BYTES, Shaper


def test_a_delay_is_the_same_for_each_packet() -> None:
    shaper = Shaper.of(Delay(latency=timedelta(milliseconds=250)))
    assert [shaper.due(60, now) for now in (1.0, 1.0, 5.5)] == [1.25, 1.25, 5.75]


def test_jitter_stays_within_its_bounds_uses_them_and_keeps_the_order() -> None:
    shaper = Shaper(0.1, 0.05, chance=random.Random(7))
    moments = [float(now) for now in range(1000)]  # so far apart that nobody waits for the one before
    waits = [(shaper.due(60, now) or 0.0) - now for now in moments]
    assert 0.05 <= min(waits) < 0.06
    assert 0.14 < max(waits) <= 0.1500001
    together = [shaper.due(60, 5000.0) or 0.0 for _ in range(1000)]
    assert together == sorted(together)
    assert together[-1] <= 5000.1500001


def test_more_jitter_than_latency_never_sends_into_the_past() -> None:
    shaper = Shaper(0.01, 0.1, chance=random.Random(7))
    assert all((shaper.due(60, float(now)) or 0.0) >= now for now in range(1000))


def test_packets_share_the_bandwidth_one_after_the_other_and_unused_time_is_not_saved() -> None:
    shaper = Shaper.of(Bandwidth(rate=8000))  # a thousand bytes a second
    assert [shaper.due(500, now) for now in (1.0, 1.0, 1.0, 9.0)] == [1.5, 2.0, 2.5, 9.5]


def test_what_has_no_room_to_wait_is_dropped_and_takes_no_turn() -> None:
    shaper = Shaper.of(Bandwidth(rate=8192))
    size, fit = 1024, BACKLOG_BYTES // 1024  # a second each
    assert [shaper.due(size, 0.0) for _ in range(fit)] == [float(n) for n in range(1, fit + 1)]
    assert shaper.due(size, 0.0) is None
    assert shaper.due(size, 1.0) == fit + 1  # there is room again


def test_a_packet_larger_than_the_backlog_passes_alone() -> None:
    assert Shaper.of(Bandwidth(rate=8000)).due(BACKLOG_BYTES + 1, 0.0) is not None
