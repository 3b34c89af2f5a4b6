"""A process with gRPC's own xDS client: one JSON order a line in, and for each call a line out as soon as it is done.

An order is `{"target", "method", "count", "metadata", "at_once", "secure"}`; what came of a call is
`[status, text, seconds]`.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import grpc
from grpc.experimental import insecure_channel_credentials

_DEADLINE_S = 30.0


def main() -> None:
    channels: dict[tuple[str, bool], grpc.Channel] = {}
    for line in sys.stdin:
        order = json.loads(line)
        secure = order.get("secure", False)
        key = order["target"], secure
        if key not in channels:
            channels[key] = _channel(f"xds:///{order['target']}", secure)
        method = order.get("method", "/shop.Reviews/Get")
        call = channels[key].unary_unary(method, lambda text: text, lambda raw: raw)
        metadata = tuple(order.get("metadata", {}).items())
        count = order.get("count", 1)
        with ThreadPoolExecutor(count if order.get("at_once") else 1) as pool:
            running = [pool.submit(_called, call, metadata) for _ in range(count)]
            for done in as_completed(running):
                print(json.dumps(done.result()), flush=True)


def _channel(target: str, secure: bool) -> grpc.Channel:
    if not secure:
        return grpc.insecure_channel(target)
    return grpc.secure_channel(target, grpc.xds_channel_credentials(insecure_channel_credentials()))


def _called(call: Any, metadata: tuple[tuple[str, str], ...]) -> tuple[str, str, float]:
    began = time.monotonic()
    try:
        status, text = "OK", call(b"", timeout=_DEADLINE_S, metadata=metadata).decode()
    except grpc.RpcError as error:
        status, text = error.code().name, error.details()
    return status, text, time.monotonic() - began


if __name__ == "__main__":
    main()
