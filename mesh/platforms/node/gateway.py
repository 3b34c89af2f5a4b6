"""The mesh's own ingress gateway, as manifests."""

from typing import Any

NAMESPACE = "istio-system"
NAME = "istio-ingressgateway"
ACCOUNT = "istio-ingressgateway-service-account"
PORT = 8080

Manifest = dict[str, Any]


def ingress_gateway(host_port: int = 9080) -> list[Manifest]:
    """Namespace, account, Service and Deployment; the gateway's port 8080 is `127.0.0.1:<host_port>` of this host."""
    labels = {"app": NAME, "istio": "ingressgateway"}
    port = {"name": "http", "containerPort": PORT, "hostPort": host_port, "hostIP": "127.0.0.1"}
    container = {"name": "istio-proxy", "image": "auto", "ports": [port]}
    template = {
        "metadata": {"labels": labels, "annotations": {"inject.istio.io/templates": "gateway"}},
        "spec": {"serviceAccountName": ACCOUNT, "containers": [container]},
    }
    meta = {"name": NAME, "namespace": NAMESPACE, "labels": labels}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": PORT}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
    ]
