"""What the agent is told: Istio's environment variables of the `istio-proxy` container."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOKEN = Path("token")
ROOT_CERT = Path("root-cert.pem")
SECRETS = Path("secrets")
BOOTSTRAP = Path("bootstrap.json")
GRPC_BOOTSTRAP = Path("grpc-bootstrap.json")
# Istio's names, in the folder of secrets, for those who read no SDS.
CERT_CHAIN, PRIVATE_KEY, ROOT = "cert-chain.pem", "key.pem", "root-cert.pem"
TELEMETRY_PIPE = Path("telemetry.pipe")

_ENGINES = ("python", "envoy")
_ROLES = ("sidecar", "router")
_META, _META_JSON = "ISTIO_META_", "ISTIO_METAJSON_"


class SettingsError(ValueError):
    """A variable or argument is missing or wrong. The text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Addresses are `host:port`. Files are named relative to the working folder, which is the pod's own.

    `delta_xds`: whether the proxy asks for changes, or for the state of the world each time. `known_by`: by what the
    rules of a captured pod tell the proxy's own connections, "mark" or "uid".
    """

    role: str
    pod: str
    namespace: str
    address: str
    admin_address: str
    service_account: str
    ca_address: str
    discovery_address: str
    trust_domain: str
    engine: str
    concurrency: int
    cert_ttl_s: int
    drain_s: float
    delta_xds: bool
    known_by: str
    metadata: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """The workload's SPIFFE id."""
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @property
    def node_id(self) -> str:
        return f"{self.role}~{self.address}~{self.pod}.{self.namespace}~{self.namespace}.svc.cluster.local"


def read_settings(arguments: list[str], environ: Mapping[str, str]) -> Settings:
    """`arguments` are `proxy sidecar` or `proxy router`. Raises SettingsError."""
    if len(arguments) != 2 or arguments[0] != "proxy" or arguments[1] not in _ROLES:
        raise SettingsError(f"usage: python -m mesh.agent proxy {'|'.join(_ROLES)}")
    metadata = _metadata(environ)
    engine = str(metadata.get("ENGINE", "python"))
    if engine not in _ENGINES:
        raise SettingsError(f'ISTIO_META_ENGINE: no engine "{engine}"; there are {" and ".join(_ENGINES)}')
    return Settings(
        role=arguments[1],
        pod=_required(environ, "POD_NAME"),
        namespace=_required(environ, "POD_NAMESPACE"),
        address=_required(environ, "INSTANCE_IP"),
        admin_address=environ.get("PROXY_ADMIN_ADDRESS") or _required(environ, "INSTANCE_IP"),
        service_account=_required(environ, "SERVICE_ACCOUNT"),
        ca_address=_required(environ, "CA_ADDR"),
        discovery_address=_required(environ, "DISCOVERY_ADDRESS"),
        trust_domain=environ.get("TRUST_DOMAIN", "cluster.local"),
        engine=engine,
        concurrency=_whole(environ, "PROXY_CONCURRENCY", 1),
        cert_ttl_s=_whole(environ, "SECRET_TTL_SECONDS", 3600),
        drain_s=float(_whole(environ, "TERMINATION_DRAIN_DURATION_SECONDS", 5)),
        delta_xds=_flag(environ, "ISTIO_DELTA_XDS", True),
        known_by=_one_of(environ, "PROXY_KNOWN_BY", ("mark", "uid")),
        metadata=metadata,
    )


def _metadata(environ: Mapping[str, str]) -> dict[str, Any]:
    """Source: Istio's pilot-agent, which turns these two prefixes into the node's metadata."""
    result: dict[str, Any] = {}
    for name, value in environ.items():
        if name.startswith(_META):
            result[name.removeprefix(_META)] = value
        elif name.startswith(_META_JSON):
            try:
                result[name.removeprefix(_META_JSON)] = json.loads(value)
            except ValueError as error:
                raise SettingsError(f"{name} is not JSON: {error}") from error
    return result


def _required(environ: Mapping[str, str], name: str) -> str:
    if value := environ.get(name):
        return value
    raise SettingsError(
        f"the environment variable {name} is missing; the injector sets it on the istio-proxy container"
    )


def _whole(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, str(default))
    if not text.isdigit() or int(text) == 0:
        raise SettingsError(f'{name}="{text}" is not a whole number above 0')
    return int(text)


def _one_of(environ: Mapping[str, str], name: str, words: tuple[str, ...]) -> str:
    """The first word where nothing is said."""
    text = environ.get(name, words[0])
    if text not in words:
        raise SettingsError(f'{name}="{text}" is none of {", ".join(words)}')
    return text


def _flag(environ: Mapping[str, str], name: str, default: bool) -> bool:
    text = environ.get(name, str(default)).lower()
    if text not in ("true", "false"):
        raise SettingsError(f'{name}="{text}" is neither true nor false')
    return text == "true"
