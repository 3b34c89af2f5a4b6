"""A sidecar of either engine as a pod's, fed over ADS by a bootstrap such as the agent writes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xdskit.envoy import BINARY
from xdskit.pki import Authority

_PORTS = (9080, 15000, 15080)
_ROOT = Path(__file__).parents[2]
_ENVOY = ("--concurrency", "1", "--disable-hot-restart", "-l", "warning")
COMMANDS = {
    "envoy": (BINARY, "-c", "bootstrap.json", *_ENVOY),
    "python": (sys.executable, "-m", "mesh.proxy", "-c", "bootstrap.json", "--concurrency", "1", "-l", "warning"),
}


def free_block() -> str:
    """The first three numbers of loopback addresses whose ports of ours nobody has."""
    for _ in range(100):
        block = f"127.{random.randint(130, 250)}.{random.randint(0, 255)}"
        if all(_is_free(f"{block}.{host}", port) for host in (1, 2) for port in _PORTS):
            return block
    raise AssertionError("no free block of loopback addresses in 100 tries")


_AS_PROXY = ("setpriv", "--regid", "1337", "--clear-groups")  # the group whose traffic the kernel lets through


@dataclass(frozen=True, slots=True)
class Captured:
    """A sidecar to which the kernel hands everything: in a network namespace, with the control plane elsewhere."""

    namespace: str
    ads_host: str


def bootstrap(
    pod: str, address: str, ads_port: int, api_type: str, captured: Captured | None = None, *, role: str = "sidecar"
) -> dict[str, Any]:
    secrets = {"watched_directory": {"path": "secrets"}}
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [
                {"name": "default", "sds_config": {"path_config_source": {"path": "secrets/default.json", **secrets}}}
            ],
            "validation_context_sds_secret_config": {
                "name": "ROOTCA",
                "sds_config": {"path_config_source": {"path": "secrets/ROOTCA.json", **secrets}},
            },
        },
    }
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    ads = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": {
            "id": f"{role}~{address}~{pod}.default~default.svc.cluster.local",
            "cluster": f"{pod}.default",
            "metadata": {"INTERCEPTION_MODE": "REDIRECT" if captured else "NONE"},
        },
        "admin": {"address": {"socket_address": {"address": address, "port_value": 15000}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds-grpc",
                    "type": "STATIC",
                    "connect_timeout": "5s",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
                    },
                    "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                    "load_assignment": {
                        "cluster_name": "xds-grpc",
                        "endpoints": [
                            {"lb_endpoints": [_endpoint(captured.ads_host if captured else "127.0.0.1", ads_port)]}
                        ],
                    },
                }
            ]
        },
    }


@asynccontextmanager
async def sidecar(
    authority: Authority,
    engine: str,
    folder: Path,
    *,
    pod: str,
    address: str,
    account: str,
    ads_port: int,
    api_type: str = "GRPC",
    captured: Captured | None = None,
    role: str = "sidecar",
) -> AsyncIterator[Path]:
    """Runs in `folder` until the block ends; gives the file that it logs to."""
    authority.write_secrets(folder / "secrets", f"spiffe://cluster.local/ns/default/sa/{account}")
    document = bootstrap(pod, address, ads_port, api_type, captured, role=role)
    document["node"]["metadata"]["ENGINE"] = engine  # Envoy is not sent the filters that it does not know
    (folder / "bootstrap.json").write_text(json.dumps(document))
    log = folder / "proxy.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(("ip", "netns", "exec", captured.namespace, *_AS_PROXY) if captured else ()),
            *COMMANDS[engine],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdout=output,
            stderr=output,
        )
        try:
            yield log
        finally:
            process.kill()
            await process.wait()


def _endpoint(address: str, port: int) -> dict[str, Any]:
    return {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
