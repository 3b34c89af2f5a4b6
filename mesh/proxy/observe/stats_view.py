"""Which stats are shown, and what is taken out of their names as tags (`Bootstrap.stats_config`).

Pure: samples in, samples out. Applied where samples are read, so counting costs what it did.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mesh.proxy.observe.stats import Sample, Tags

_MAX_KNOWN = 65_536


@dataclass(frozen=True, slots=True)
class TagRule:
    """A tag by the name that Envoy extracts by default, by a regular expression over the stat's name, or constant."""

    name: str
    regex: re.Pattern[str] | None = None
    constant: str = ""


class StatsView:
    """What of the samples is shown. Without a configuration, all of them as they are."""

    def __init__(
        self,
        tags: tuple[TagRule, ...] = (),
        *,
        with_defaults: bool = True,
        shows: Callable[[str], bool] | None = None,
    ) -> None:
        self.with_defaults = with_defaults
        self._tags = tags
        self._shows = shows
        self._known: dict[str, tuple[str, Tags] | None] = {}

    def of(self, samples: Iterable[Sample]) -> list[Sample]:
        """The samples that the matcher lets through, with their tags. Metrics with labels of their own stay so."""
        if self._shows is None and self.with_defaults and not self._tags:
            return list(samples)
        return [seen for sample in samples if (seen := sample if sample.is_plain else self._see(sample)) is not None]

    def _see(self, sample: Sample) -> Sample | None:
        name = sample.name
        if name not in self._known:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[name] = self._named(sample) if self._shows is None or self._shows(name) else None
        found = self._known[name]
        return None if found is None else sample._replace(base=found[0], tags=found[1])

    def _named(self, sample: Sample) -> tuple[str, Tags]:
        """The name without its tags, and the tags."""
        base, tags = (sample.base, list(sample.tags)) if self.with_defaults else (sample.name, [])
        for tag in self._tags:
            if tag.constant:
                continue
            if tag.regex is None:
                value = dict(sample.tags).get(tag.name)
                if value is not None and not self.with_defaults:
                    tags.append((tag.name, value))
                    base = base.replace(f".{value}", "", 1)
            elif (found := tag.regex.search(sample.name)) is not None and found[1] is not None:
                tags.append((tag.name, found[2] if tag.regex.groups > 1 and found[2] is not None else found[1]))
                base = base.replace(found[1], "", 1)
        constants = ((tag.name, tag.constant) for tag in self._tags if tag.constant)
        return base, (*constants, *tags)
