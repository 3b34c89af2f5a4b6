"""Upgrades to another protocol (RFC 9110 section 7.8): which messages ask for one or agree to one."""

from __future__ import annotations

from mesh.proxy.http1.head import Head


def is_upgrade(head: Head) -> bool:
    """Whether the message asks for, or agrees to, another protocol; h2c alone is an offer that may be ignored."""
    marked = head.marked
    if b"upgrade" not in marked or marked[b"upgrade"].lower() == b"h2c":
        return False
    return b"upgrade" in [token.strip() for token in marked.get(b"connection", b"").lower().split(b",")]


def restore(head: Head) -> None:
    """Put back the lines that are hop-by-hop, except here."""
    head.lines += (b"connection: %b" % head.marked[b"connection"], b"upgrade: %b" % head.marked[b"upgrade"])
