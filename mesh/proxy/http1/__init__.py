"""HTTP/1.1 on the wire: heads, body framing, local replies (RFC 9112).

MUST NOT do I/O or know of routes, clusters and connections: bytes in, values out.
"""
