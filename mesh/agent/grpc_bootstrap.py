"""The bootstrap of gRPC's own xDS client, for an app that needs no sidecar for its gRPC calls. Pure."""

from pathlib import Path
from typing import Any

from mesh.agent.bootstrap import node
from mesh.agent.settings import CERT_CHAIN, PRIVATE_KEY, ROOT, SECRETS, Settings

Json = dict[str, Any]

# gRPC looks at the files this often. The agent renews certificates long before they end.
_REFRESH = "10s"


def grpc_bootstrap(settings: Settings, folder: Path) -> Json:
    """What `GRPC_XDS_BOOTSTRAP` names: mutual TLS to the control plane by the pod's own certificate.

    `folder` is the pod's; the files are named in full, as the app runs where it likes.
    """
    secrets = folder / SECRETS
    files = {
        "certificate_file": str(secrets / CERT_CHAIN),
        "private_key_file": str(secrets / PRIVATE_KEY),
        "ca_certificate_file": str(secrets / ROOT),
        "refresh_interval": _REFRESH,
    }
    known = node(settings)
    return {
        "xds_servers": [
            {
                "server_uri": settings.discovery_address,
                "channel_creds": [{"type": "tls", "config": files}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {**known, "metadata": {**known["metadata"], "GENERATOR": "grpc"}},
        "certificate_providers": {"default": {"plugin_name": "file_watcher", "config": files}},
    }
