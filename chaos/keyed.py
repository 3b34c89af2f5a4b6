"""Requests whose fate is known before they are sent.

A weighted route draws a random number for each request, unless the request brings one: Envoy's `weighted_clusters`
reads it from the header named by `header_name`, takes it modulo the total weight, and walks the clusters in declared
order. So a harness that chooses the header's value knows which version must answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

# Sixteen decimal digits are a valid B3 trace id (64 bits in hex) as well as an integer that Envoy accepts.
DIGITS = 16


def values(key: str, count: int) -> Iterator[str]:
    """`count` header values of sixteen decimal digits, the same for the same key, uniform over keys."""
    for index in range(count):
        digest = hashlib.blake2b(f"{key}/{index}".encode(), digest_size=8).digest()
        # Never all zeros: an all-zero trace id is invalid, and a tracer would replace it.
        yield f"{int.from_bytes(digest) % (10**DIGITS - 1) + 1:0{DIGITS}d}"


def predict(value: str, weights: Mapping[str, int]) -> str:
    """The version that a weighted route picks for that header value; `weights` are in declared order, in any unit."""
    point = int(value) % sum(weights.values())
    for version, weight in weights.items():
        if point < weight:
            return version
        point -= weight
    raise AssertionError("a point below the total weight lies in one of the intervals")
