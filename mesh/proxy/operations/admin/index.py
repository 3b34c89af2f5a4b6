"""`/` and `/help`, made from the pages themselves."""

from __future__ import annotations

from collections.abc import Callable

from mesh.proxy.operations.admin.page import HTML, Page, Reply, Request, Sidecar
from mesh.proxy.operations.admin.server import Pages, help_text

_HEAD = (
    "<!DOCTYPE html>\n<html lang='en'>\n<head><meta charset='utf-8'><title>Envoy Admin</title>\n"
    "<style>body{font-family:sans-serif}td,th{padding:4px 12px;text-align:left}</style></head>\n"
    "<body>\n<table>\n<tr><th>Command</th><th>Description</th></tr>\n"
)


def with_index(pages: Pages) -> Pages:
    """`pages` and the two that list them."""

    async def home(_: Sidecar, __: Request) -> Reply:
        return Reply(_html(every), content_type=HTML)

    async def help_(_: Sidecar, __: Request) -> Reply:
        return Reply(help_text(every))

    every = {
        **pages,
        "/": Page("/", "Admin home page", home),
        "/help": Page("/help", "print out list of admin commands", help_),
    }
    return every


def _html(pages: Pages) -> str:
    from html import escape  # noqa: PLC0415 - its table of entities is half a megabyte, and few open this page

    rows = (_row(pages[path], escape) for path in sorted(pages) if path != "/")
    return f"{_HEAD}{''.join(rows)}</table>\n</body>\n</html>\n"


def _row(page: Page, escape: Callable[[str], str]) -> str:
    name = escape(page.path.removeprefix("/"))
    link = f"<a href='{name}'>{name}</a>"
    if page.changes:
        link = f"<form action='{name}' method='post'><button>{name}</button></form>"
    return f"<tr><td>{link}</td><td>{escape(page.about)}</td></tr>\n"
