"""Fuzzing of what reads a peer's bytes: heads and chunks of HTTP/1, frames and HPACK of HTTP/2.

`scripts/fuzz TARGET --minutes N` looks for an input that raises what it must not, gives another result when its bytes
come in other pieces, breaks an invariant, or hangs; it then writes that input to a file and says so. Not part of CI.
"""
