"""A real Envoy: does it accept what we compile?"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from google.protobuf.json_format import MessageToDict

from mesh.xds.ads.catalog import ProxyConfig
from xdskit.mesh import clusters, listeners, routes
from xdskit.pki import Authority

BINARY = shutil.which("envoy", path=str(Path(sys.executable).parent)) or "envoy"
_MANAGER = "envoy.filters.network.http_connection_manager"


def static_bootstrap(config: ProxyConfig) -> dict[str, Any]:
    """All of a proxy's resources in one static file: routes inline, endpoints still over ADS."""
    return {
        "node": {"id": "sidecar~127.0.0.1~a.b~b", "cluster": "a.b"},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            }
        },
        "static_resources": {
            "clusters": [
                {"name": "xds-grpc", "type": "STATIC", "connect_timeout": "1s", "http2_protocol_options": {}},
                *(MessageToDict(cluster) for cluster in clusters(config).values()),
            ],
            "listeners": [MessageToDict(_inlined(own, config)) for own in listeners(config).values()],
        },
    }


def validate(config: ProxyConfig, folder: Path) -> str:
    """Envoy's complaint about a proxy's resources; empty when it accepts them all."""
    authority = Authority()
    authority.write_secrets(folder / "secrets", "spiffe://cluster.local/ns/default/sa/test")
    authority.write_pem(folder / "secrets")
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(static_bootstrap(config)))
    done = subprocess.run(
        [BINARY, "--mode", "validate", "-c", path.name, "-l", "warning"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _inlined(listener: Listener, config: ProxyConfig) -> Listener:
    found = routes(config)
    for chain in listener.filter_chains:
        for network_filter in chain.filters:
            if network_filter.name == _MANAGER:
                manager = HttpConnectionManager()
                network_filter.typed_config.Unpack(manager)
                if manager.HasField("rds"):
                    manager.route_config.CopyFrom(found[manager.rds.route_config_name])
                    network_filter.typed_config.Pack(manager)
    return listener
