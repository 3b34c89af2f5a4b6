"""Earliest deadline first: how Envoy keeps to weights (its `EdfScheduler`)."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Schedule(Generic[T]):
    """Members in turn, so that one of weight w comes up every 1/w; the weight is asked anew each time.

    A random first deadline keeps several sidecars from all starting with the heaviest. Weights are above 0.
    """

    __slots__ = ("_heap", "_order", "_weight")

    def __init__(self, members: Iterable[T], weight: Callable[[T], float]) -> None:
        self._weight = weight
        self._heap = [(random.random() / weight(each), index, each) for index, each in enumerate(members)]
        self._order = len(self._heap)
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    def next(self) -> T:
        """Whose turn it is. There must be somebody."""
        deadline, _, member = self._heap[0]
        self._order += 1
        heapq.heapreplace(self._heap, (deadline + 1 / self._weight(member), self._order, member))
        return member
