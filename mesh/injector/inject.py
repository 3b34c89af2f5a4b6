"""Pod template to pod template: adds the `istio-proxy` container, or fills the one of a gateway."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Manifest = dict[str, Any]

PROXY = "istio-proxy"
PROXY_IMAGE = "meshdrill/proxy:latest"
INJECT = "sidecar.istio.io/inject"
TEMPLATES = "inject.istio.io/templates"
STATUS = "sidecar.istio.io/status"
ENGINE = "meshdrill.dev/engine"
ENGINES = ("python", "envoy")
INTERCEPTION_MODE = "sidecar.istio.io/interceptionMode"
READINESS_PORT = 15021

_PORTS = (("status-port", READINESS_PORT), ("http-envoy-prom", 15090))


class InjectionError(ValueError):
    """An annotation asks for what there is not. The text names it."""


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """What the mesh tells every proxy. Addresses are `host:port`.

    `intercepted`: pods have networks of their own, in which all traffic is led through the sidecar. `known_by`: how the
    rules there know what the sidecar itself sends, by a mark or by its uid and groups.
    """

    ca_address: str
    discovery_address: str
    engine: str = "python"
    trust_domain: str = "cluster.local"
    cluster_id: str = "Kubernetes"
    intercepted: bool = False
    known_by: Literal["mark", "uid"] = "mark"


def inject(template: Mapping[str, Any], workload: str, settings: ProxySettings) -> Manifest:
    """A copy of `template` (metadata and spec of a pod) with its proxy; an equal copy if it does not want one.

    A template that lists a container `istio-proxy` of its own keeps its fields, over ours, as with Istio. Raises
    InjectionError.
    """
    result = copy.deepcopy(dict(template))
    if not wants_proxy(template):
        return result
    metadata = result.setdefault("metadata", {})
    metadata["annotations"] = annotations = dict(metadata.get("annotations") or {})
    spec = result["spec"]
    own = next((c for c in spec["containers"] if c["name"] == PROXY), {"name": PROXY})
    apps = [container for container in spec["containers"] if container["name"] != PROXY]
    if any(container["name"] == PROXY for container in spec.get("initContainers") or ()):
        raise InjectionError(f'initContainers: "{PROXY}" is the sidecar, which runs among containers here')
    engine = _engine(annotations, settings)
    role = "router" if _is_gateway(annotations) else "sidecar"
    made = _container(role, engine, settings)
    made["env"] += _network_variables(role, annotations, settings)
    metadata["labels"] = labels = _labels(role, metadata.get("labels") or {}, workload)
    made["env"] += _metadata_variables(workload, labels, apps, settings)
    spec["containers"] = [*apps, _merged(made, own)]
    annotations[STATUS] = json.dumps({"containers": [PROXY], "revision": "default"})
    return result


def wants_proxy(template: Mapping[str, Any]) -> bool:
    """The label decides, then the annotation, and injection is on where both are silent. Source: Istio's injector."""
    metadata = template.get("metadata") or {}
    if template["spec"].get("hostNetwork"):
        return False
    label = (metadata.get("labels") or {}).get(INJECT)
    asked = label if label is not None else (metadata.get("annotations") or {}).get(INJECT, "true")
    return str(asked).lower() in ("true", "y", "yes", "on")


def _is_gateway(annotations: Mapping[str, str]) -> bool:
    names = [name.strip() for name in annotations.get(TEMPLATES, "sidecar").split(",")]
    unknown = set(names) - {"sidecar", "gateway"}
    if unknown:
        raise InjectionError(f'annotation {TEMPLATES}: no template "{min(unknown)}"; there are sidecar and gateway')
    return "gateway" in names


def _engine(annotations: Mapping[str, str], settings: ProxySettings) -> str:
    engine = annotations.get(ENGINE, settings.engine)
    if engine not in ENGINES:
        raise InjectionError(f'annotation {ENGINE}: no engine "{engine}"; there are {" and ".join(ENGINES)}')
    return engine


def _container(role: str, engine: str, settings: ProxySettings) -> Manifest:
    probe = {"path": "/healthz/ready", "port": READINESS_PORT}
    return {
        "name": PROXY,
        "image": PROXY_IMAGE,
        "command": ["python", "-m", "mesh.agent"],
        "args": ["proxy", role],
        "ports": [{"name": name, "containerPort": port} for name, port in _PORTS],
        "env": [
            *(_field(name, path) for name, path in _FIELDS),
            {"name": "CA_ADDR", "value": settings.ca_address},
            {"name": "DISCOVERY_ADDRESS", "value": settings.discovery_address},
            {"name": "TRUST_DOMAIN", "value": settings.trust_domain},
            {"name": "ISTIO_META_ENGINE", "value": engine},
        ],
        "readinessProbe": {"httpGet": probe, "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 4},
    }


_FIELDS = (
    ("POD_NAME", "metadata.name"),
    ("POD_NAMESPACE", "metadata.namespace"),
    ("INSTANCE_IP", "status.podIP"),
    ("SERVICE_ACCOUNT", "spec.serviceAccountName"),
)


def _network_variables(role: str, annotations: Mapping[str, str], settings: ProxySettings) -> list[Manifest]:
    """The admin pages are within the pod alone where it has a network of its own, as with Istio."""
    asked = annotations.get(INTERCEPTION_MODE, "REDIRECT")
    if asked != "REDIRECT":
        raise InjectionError(f'annotation {INTERCEPTION_MODE}: there is REDIRECT, but no "{asked}"')
    if not settings.intercepted:
        return []
    admin = {"name": "PROXY_ADMIN_ADDRESS", "value": "127.0.0.1"}
    if role != "sidecar":
        return [admin]
    known_by = [{"name": "PROXY_KNOWN_BY", "value": settings.known_by}] if settings.known_by != "mark" else []
    return [admin, {"name": "ISTIO_META_INTERCEPTION_MODE", "value": "REDIRECT"}, *known_by]


def _labels(role: str, given: Mapping[str, str], workload: str) -> dict[str, str]:
    """Istio's own labels beneath the given ones. Source: its injection templates and its canonical service names."""
    name = given.get("app.kubernetes.io/name") or given.get("app") or workload
    revision = given.get("app.kubernetes.io/version") or given.get("version") or "latest"
    own = {"service.istio.io/canonical-name": name, "service.istio.io/canonical-revision": revision}
    if role == "sidecar":  # which takes mutual TLS by itself; what a gateway takes, its Gateways say
        own["security.istio.io/tlsMode"] = "istio"
    return own | dict(given)


def _metadata_variables(
    workload: str, labels: Mapping[str, str], apps: list[Manifest], settings: ProxySettings
) -> list[Manifest]:
    """`ISTIO_META_X` becomes metadata X of the proxy's node, `ISTIO_METAJSON_X` the same from JSON."""
    return [
        {"name": "ISTIO_META_WORKLOAD_NAME", "value": workload},
        {"name": "ISTIO_META_CLUSTER_ID", "value": settings.cluster_id},
        {"name": "ISTIO_META_MESH_ID", "value": settings.trust_domain},
        {"name": "ISTIO_META_APP_CONTAINERS", "value": ",".join(app["name"] for app in apps)},
        {"name": "ISTIO_METAJSON_LABELS", "value": _unexpanded(json.dumps(dict(labels), sort_keys=True))},
    ]


def _unexpanded(value: str) -> str:
    return value.replace("$", "$$")  # Kubernetes expands $(NAME) in values


def _field(name: str, path: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _merged(made: Manifest, own: Mapping[str, Any]) -> Manifest:
    """The user's fields over ours; lists of named things (env, ports) are joined by name. `image: auto` means ours."""
    result = made | {key: value for key, value in own.items() if (key, value) != ("image", "auto")}
    for key in ("env", "ports"):
        names = {item.get("name") for item in own.get(key) or []}
        result[key] = [item for item in made[key] if item["name"] not in names] + list(own.get(key) or [])
    return result
