"""`/logging`: shows and changes log levels."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.proxy import logs
from mesh.proxy.operations.admin.page import BadQuery, Page, Reply, Request, Sidecar

_USAGE = """
usage: /logging?<name>=<level> (change single level)
usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)
usage: /logging?level=<level> (change all levels)
levels: trace debug info warning error critical off
"""


async def answer(_: Sidecar, request: Request) -> Reply:
    if len(request.query) > 1:
        raise BadQuery("error: invalid number of parameters\n" + _USAGE + _levels())
    changes = [change for name, value in request.query.items() for change in _changes(name, value)]
    if not all(name and level for name, level in changes):
        raise BadQuery("error: empty logger name or empty logger level\n" + _USAGE + _levels())
    for name, level in changes:  # all are looked at before the first is made
        if name not in logs.COMPONENTS:
            raise BadQuery("error: unknown logger name\n" + _USAGE + _levels())
        if level not in logs.LEVELS:
            raise BadQuery("error: unknown logger level\n" + _USAGE + _levels())
    for name, level in changes:
        logs.set_level(name, level)
    return Reply(_levels())


def _changes(name: str, value: str) -> Iterator[tuple[str, str]]:
    if name == "level":
        yield from ((component, value) for component in logs.COMPONENTS)
    elif name == "paths":
        yield from ((component, level) for component, _, level in (pair.partition(":") for pair in value.split(",")))
    else:
        yield name, value


def _levels() -> str:
    return "active loggers:\n" + "".join(f"  {name}: {level}\n" for name, level in logs.levels().items()) + "\n"


PAGES = (
    Page(
        "/logging",
        "query/change logging levels",
        answer,
        changes=True,
        parameters={
            "paths": "Change several levels: <logger_name1>:<level1>,<logger_name2>:<level2>",
            "level": "desired logging level of all loggers; One of (trace, debug, info, warning, error, critical, off)",
        },
    ),
)
