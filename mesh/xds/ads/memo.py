"""Remembers what was compiled, by the parts that it was compiled from."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

_KEPT_GENERATIONS: Final = 4


class Memo(Generic[T]):
    """One result per key, as long as its inputs stay equal and somebody asks for it every few generations.

    Comparing inputs is cheap: a snapshot hands on unchanged objects, and Python's tuples compare identity first.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, tuple[Any, T, int]] = {}
        self._generation = 0
        self.made = 0
        self.reused = 0

    def get(self, key: Hashable, inputs: object, make: Callable[[], T]) -> T:
        """The result for `inputs`, made now if it is not the one remembered under `key`."""
        entry = self._entries.get(key)
        if entry is not None and (entry[0] is inputs or entry[0] == inputs):
            self.reused += 1
            result = entry[1]
        else:
            self.made += 1
            result = make()
        self._entries[key] = (inputs, result, self._generation)
        return result

    def advance(self) -> None:
        """Begin a generation, and forget what nobody asked for in the last few."""
        self._generation += 1
        oldest = self._generation - _KEPT_GENERATIONS
        self._entries = {key: entry for key, entry in self._entries.items() if entry[2] >= oldest}
