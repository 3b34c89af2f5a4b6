"""Signals of a run: raised where undoing follows, kept back elsewhere, and only the first one counts."""

from __future__ import annotations

import os
import signal

import pytest

from chaos.interrupts import SIGNALS, Interrupts


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_what_lets_it_through(number: signal.Signals) -> None:
    interrupts = Interrupts()
    after = []

    def measure() -> None:
        with interrupts.let_through():
            os.kill(os.getpid(), number)
            after.append("measured")

    with interrupts.taken(), pytest.raises(KeyboardInterrupt):
        measure()
    assert after == []


def test_a_signal_waits_for_the_next_block_that_lets_it_through() -> None:
    interrupts = Interrupts()
    reached = False
    with interrupts.taken():
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
        with pytest.raises(KeyboardInterrupt), interrupts.let_through():
            pytest.fail("the block ran")
    assert reached


def test_undoing_is_not_cut_short_by_further_signals() -> None:
    interrupts = Interrupts()
    undone = []

    def measure() -> None:
        with interrupts.let_through():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                undone.append("fault")
                os.kill(os.getpid(), signal.SIGINT)
                undone.append("load")

    with interrupts.taken(), pytest.raises(KeyboardInterrupt):
        measure()
    assert undone == ["fault", "load"]


def test_an_interrupt_that_an_error_displaced_is_raised_later() -> None:
    interrupts = Interrupts()

    def measure() -> None:
        with interrupts.let_through():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            finally:
                raise ValueError("undoing failed")

    with interrupts.taken():
        with pytest.raises(ValueError, match="undoing failed"):
            measure()
        with pytest.raises(KeyboardInterrupt):
            interrupts.raise_if_came()


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts().taken():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
