"""Our exact tails against scipy's, and the sample sizes that a drill relies on."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from chaos import stats

shares = st.floats(0.001, 0.999)


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    trials = draw(st.integers(1, 5000))
    return draw(st.integers(0, trials)), trials


@given(counts(), shares)
def test_tails_agree_with_scipy(count: tuple[int, int], share: float) -> None:
    successes, trials = count
    for ours, theirs in (
        (stats.at_most(successes, trials, share), binom.cdf(successes, trials, share)),
        (stats.at_least(successes, trials, share), binom.sf(successes - 1, trials, share)),
    ):
        assert math.isclose(ours, theirs, rel_tol=1e-8, abs_tol=1e-150)


@given(st.integers(1, 80), st.data(), st.integers(1, 99))
def test_tails_agree_with_rational_arithmetic(trials: int, data: st.DataObject, percent: int) -> None:
    """Far out, scipy's tails have six digits right; ours keep ten."""
    successes = data.draw(st.integers(0, trials))
    share = Fraction(percent, 100)
    terms = [math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(trials + 1)]
    assert math.isclose(
        stats.at_most(successes, trials, percent / 100), sum(terms[: successes + 1]), rel_tol=1e-10, abs_tol=1e-300
    )
    assert math.isclose(
        stats.at_least(successes, trials, percent / 100), sum(terms[successes:]), rel_tol=1e-10, abs_tol=1e-300
    )


@given(counts())
def test_interval_is_clopper_and_pearsons(count: tuple[int, int]) -> None:
    theirs = binomtest(*count).proportion_ci(0.999)
    assert stats.interval(*count, alpha=0.001) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(counts(), shares)
def test_a_count_is_accepted_when_its_p_value_exceeds_alpha(count: tuple[int, int], share: float) -> None:
    successes, trials = count
    region = stats.acceptance(trials, share, 1e-3)
    assert (region.low <= successes <= region.high) == (stats.p_value(successes, trials, share) > 1e-3)


@pytest.mark.parametrize(
    ("share", "actual", "needed"),
    [(0.01, 0.0, 1444), (0.05, 0.0, 283), (0.1, 0.0, 138), (0.1, 0.05, 2532), (0.1, 0.5, 105), (0.5, 1.0, 21)],
)
def test_requests_needed_at_one_in_a_million(share: float, actual: float, needed: int) -> None:
    assert stats.requests_needed(share, actual, 1e-6, 1e-6) == needed


@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_the_number_needed_has_the_power_and_one_less_than_half_has_not(share: float, actual: float) -> None:
    if abs(share - actual) < 0.05:
        return
    needed = stats.requests_needed(share, actual, 1e-3, 1e-3)
    assert stats.miss_probability(needed, share, actual, 1e-3) <= 1e-3
    assert stats.miss_probability(needed // 2, share, actual, 1e-3) > 1e-3


def test_a_share_cannot_be_told_from_itself() -> None:
    with pytest.raises(ValueError, match="itself"):
        stats.requests_needed(0.5, 0.5, 1e-6, 1e-6)
