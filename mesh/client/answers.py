"""From the API's JSON to the types of this package. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mesh.client.types import (
    Applied,
    ApplyResult,
    Certificate,
    Manifest,
    ObjectList,
    ProxyStatus,
    Token,
    TypeStatus,
)


def manifest(answer: Any) -> Manifest:
    found: Manifest = answer
    return found


def object_list(answer: Any) -> ObjectList:
    return ObjectList(answer["items"], answer["metadata"]["resourceVersion"])


def apply_result(answer: Any) -> ApplyResult:
    items = [Applied(item["action"], item["object"]) for item in answer["items"]]
    return ApplyResult(answer["metadata"]["resourceVersion"], items)


def deletion(answer: Any) -> str:
    version: str = answer["metadata"]["resourceVersion"]
    return version


def proxies(answer: Any) -> tuple[ProxyStatus, ...]:
    return tuple(
        ProxyStatus(
            id=proxy["id"],
            node_id=proxy["node_id"],
            address=proxy["address"],
            types=tuple(
                TypeStatus(status["type"], status["state"], status["sent"], status["acked"], status["error"])
                for status in proxy["types"]
            ),
        )
        for proxy in answer["proxies"]
    )


def token(answer: Any) -> Token:
    status = answer["status"]
    return Token(status["token"], datetime.fromisoformat(status["expirationTimestamp"]))


def certificate(answer: Any) -> Certificate:
    return Certificate(tuple(answer["chain"]), answer["root"], datetime.fromisoformat(answer["not_after"]))
