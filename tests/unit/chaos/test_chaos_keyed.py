"""Predicted fates: uniform, repeatable, and as Envoy's weighted clusters decide."""

from __future__ import annotations

from collections import Counter

from chaos import keyed, stats


def test_values_are_trace_ids_and_the_same_for_the_same_key() -> None:
    values = list(keyed.values("seed", 200))
    assert values == list(keyed.values("seed", 200))
    assert values != list(keyed.values("other", 200))
    assert all(len(value) == 16 and value.isdigit() and int(value) for value in values)


def test_weights_are_walked_in_declared_order() -> None:
    weights = {"v1": 90, "none": 0, "v2": 10}
    fates = [keyed.predict(str(point), weights) for point in (0, 89, 90, 99, 100, 190)]
    assert fates == ["v1", "v1", "v2", "v2", "v1", "v2"]


def test_weights_need_not_sum_to_a_hundred() -> None:
    assert Counter(keyed.predict(str(point), {"a": 1, "b": 2}) for point in range(300)) == {"a": 100, "b": 200}


def test_keyed_values_spread_as_the_weights_say() -> None:
    count = 5000
    seen = Counter(keyed.predict(value, {"v1": 90, "v2": 10}) for value in keyed.values("spread", count))
    assert stats.p_value(seen["v2"], count, 0.1) > 1e-6
