"""Upgrades to another protocol (RFC 9110 section 7.8): which messages ask for one or agree to one."""

from __future__ import annotations

from mesh.proxy.http1.head import Head

CONNECT = b"connect"  # how codecs mark that method, which is an upgrade in all but its headers


def is_upgrade(head: Head) -> bool:
    """Whether the message asks for, or agrees to, another protocol; h2c alone is an offer that may be ignored."""
    marked = head.marked
    if b"upgrade" not in marked or marked[b"upgrade"].lower() == b"h2c":
        return False
    return b"upgrade" in [token.strip() for token in marked.get(b"connection", b"").lower().split(b",")]


def is_agreement(asked: bytes, status: int) -> bool:
    """Whether a response's status agrees to an upgrade: a 101, or any success for CONNECT."""
    return 200 <= status < 300 if asked == CONNECT else status == 101


def restore(head: Head) -> None:
    """Put back the lines that are hop-by-hop, except here; CONNECT has none."""
    if head.marked.get(b"upgrade", CONNECT) == CONNECT:
        return
    head.lines += (b"connection: %b" % head.marked[b"connection"], b"upgrade: %b" % head.marked[b"upgrade"])
