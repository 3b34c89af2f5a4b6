"""What of Envoy's API this sidecar honours, read off the compiler's own tables: `python -m mesh.proxy.supported`.

Prints `docs/proxy.md`. Every module that compiles a part of the API keeps its table, `SUPPORTED`, beside the code that
reads the fields, and refuses by it (`fields.check`); this only finds the tables and puts them in order.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import Default

import mesh.proxy
from mesh.proxy.fields import LEAVES, OPAQUE

_INTRO = """\
# What the sidecar supports of Envoy's API

This page is generated from the tables by which the sidecar refuses what it does not honour
(`python -m mesh.proxy.supported > docs/proxy.md`), so it says what the code does. A field that is not listed under
*Honoured* is refused by name, with the resource and the path to the field: at start for a bootstrap file, with a NACK
for xDS. Within honoured fields a value may be refused too; the text then says which and why.

Names are those of Envoy's v3 API; *all* stands for fields that are taken whole, as metadata is.
"""


@dataclass(frozen=True)
class Table:
    """One module's table: the messages that it reads by full name, with the fields that it honours."""

    module: str
    about: str
    messages: Mapping[str, frozenset[str]]

    def roots(self) -> list[Descriptor]:
        """The messages of the table that none of its others holds: what the module is handed."""
        held = {
            child.full_name
            for name, fields in self.messages.items()
            for field, child in children(descriptor(name), fields)
            if child.full_name != name
        }
        return [descriptor(name) for name in self.messages if name not in held]


def tables() -> list[Table]:
    """The tables of all modules of the proxy, by the module's name."""
    found = []
    for module in _modules():
        table = vars(module).get("SUPPORTED")
        if table is not None:
            about = (module.__doc__ or "").partition("\n")[0]
            found.append(Table(module.__name__, about, table))
    return sorted(found, key=lambda table: table.module)


def _modules() -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(mesh.proxy.__path__, "mesh.proxy."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def descriptor(full_name: str) -> Descriptor:
    """The description of a message of Envoy's API. Raises KeyError if there is none of that name."""
    try:
        return Default().FindMessageTypeByName(full_name)
    except KeyError:
        # A table may name a message whose stubs are imported only where a configuration uses it.
        version = re.search(r"^(.*?\.v\d\w*)\.", full_name)
        if version is None:
            raise
        package = importlib.import_module(version[1])
        for stubs in pkgutil.iter_modules(package.__path__, f"{version[1]}."):
            importlib.import_module(stubs.name)
    return Default().FindMessageTypeByName(full_name)


def children(message: Descriptor, fields: frozenset[str]) -> Iterator[tuple[str, Descriptor]]:
    """The message-typed ones of `fields`, with their types; maps give the type of their values."""
    for field in message.fields:
        kind = field.message_type
        if field.name not in fields or kind is None:
            continue
        if kind.GetOptions().map_entry:
            kind = kind.fields_by_name["value"].message_type
        if kind is not None and kind.full_name not in LEAVES:
            yield field.name, kind


def page() -> str:
    """The whole page as Markdown. A message that several modules read in the same way stands where it comes first."""
    shown: set[str] = set()
    return "\n".join([_INTRO, *filter(None, (_section(table, shown) for table in tables()))])


def _section(table: Table, shown: set[str]) -> str:
    title = ", ".join(root.name for root in table.roots())
    rows = [row for row in (_row(*item) for item in table.messages.items()) if row not in shown]
    if not rows:
        return ""
    shown.update(rows)
    head = ["| Message | Honoured | Refused |", "| --- | --- | --- |"]
    return "\n".join([f"## {title}", "", f"`{table.module}`: {table.about}", "", *head, *rows, ""])


def _row(name: str, honoured: frozenset[str]) -> str:
    if honoured is OPAQUE:
        return f"| `{name}` | all | |"
    names = [field.name for field in descriptor(name).fields]
    refused = [field for field in names if field not in honoured]
    return f"| `{name}` | {_listed(field for field in names if field in honoured)} | {_listed(refused)} |"


def _listed(names: Iterator[str] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.stdout.write(page())
