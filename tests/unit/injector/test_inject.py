import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from mesh.api.pod import Pod
from mesh.config.decode import decode_object
from mesh.injector.inject import InjectionError, ProxySettings, inject

SETTINGS = ProxySettings(ca_address="127.64.0.1:15014", discovery_address="127.64.0.1:15012")


def template(
    *, annotations: dict[str, str] | None = None, labels: dict[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    return {
        "metadata": {"labels": labels or {"app": "web", "version": "v1"}, "annotations": annotations or {}},
        "spec": {"containers": [{"name": "web", "image": "web:1"}], **spec},
    }


def proxy(injected: dict[str, Any]) -> dict[str, Any] | None:
    return next((c for c in injected["spec"]["containers"] if c["name"] == "istio-proxy"), None)


def variables(injected: dict[str, Any]) -> dict[str, str]:
    container = proxy(injected)
    assert container is not None
    return {item["name"]: item.get("value") or item["valueFrom"]["fieldRef"]["fieldPath"] for item in container["env"]}


def test_a_pod_gets_a_sidecar_that_knows_who_it_is() -> None:
    injected = inject(template(), "web-v1", SETTINGS)
    found = variables(injected)
    assert [c["name"] for c in injected["spec"]["containers"]] == ["web", "istio-proxy"]
    assert found["POD_NAME"] == "metadata.name"
    assert found["INSTANCE_IP"] == "status.podIP"
    assert found["CA_ADDR"] == "127.64.0.1:15014"
    assert found["ISTIO_META_WORKLOAD_NAME"] == "web-v1"
    assert found["ISTIO_META_ENGINE"] == "python"
    labels = {
        "app": "web",
        "version": "v1",
        "security.istio.io/tlsMode": "istio",
        "service.istio.io/canonical-name": "web",
        "service.istio.io/canonical-revision": "v1",
    }
    assert injected["metadata"]["labels"] == labels
    assert json.loads(found["ISTIO_METAJSON_LABELS"]) == labels


def test_the_template_itself_is_left_as_it_was() -> None:
    original = template()
    before = copy.deepcopy(original)
    inject(original, "web", SETTINGS)
    assert original == before


@pytest.mark.parametrize(
    "unwilling",
    [
        template(annotations={"sidecar.istio.io/inject": "false"}),
        template(labels={"sidecar.istio.io/inject": "false"}),
        template(labels={"sidecar.istio.io/inject": "false"}, annotations={"sidecar.istio.io/inject": "true"}),
        template(hostNetwork=True),
    ],
)
def test_who_does_not_want_a_sidecar_gets_none(unwilling: dict[str, Any]) -> None:
    assert inject(unwilling, "web", SETTINGS) == unwilling


def test_the_label_wins_over_the_annotation() -> None:
    wanted = template(labels={"sidecar.istio.io/inject": "true"}, annotations={"sidecar.istio.io/inject": "false"})
    assert proxy(inject(wanted, "web", SETTINGS)) is not None


def test_a_gateway_becomes_a_router_and_keeps_its_ports() -> None:
    gateway = template(annotations={"inject.istio.io/templates": "gateway"})
    gateway["spec"]["containers"] = [
        {"name": "istio-proxy", "image": "auto", "ports": [{"name": "http2", "containerPort": 8080, "hostPort": 9080}]}
    ]
    injected = inject(gateway, "ingress", SETTINGS)
    assert "security.istio.io/tlsMode" not in injected["metadata"]["labels"]
    container = proxy(injected)
    assert container is not None
    assert container["args"] == ["proxy", "router"]
    assert container["image"] != "auto"
    assert {"name": "http2", "containerPort": 8080, "hostPort": 9080} in container["ports"]
    assert 15021 in [port["containerPort"] for port in container["ports"]]


def test_a_pods_own_proxy_settings_win_over_ours() -> None:
    own = template()
    own["spec"]["containers"].append(
        {
            "name": "istio-proxy",
            "env": [{"name": "PROXY_CONCURRENCY", "value": "2"}, {"name": "CA_ADDR", "value": "x:1"}],
        }
    )
    found = variables(inject(own, "web", SETTINGS))
    assert (found["PROXY_CONCURRENCY"], found["CA_ADDR"]) == ("2", "x:1")


def test_the_engine_may_be_chosen_per_pod() -> None:
    chosen = template(annotations={"meshdrill.dev/engine": "envoy"})
    assert variables(inject(chosen, "web", SETTINGS))["ISTIO_META_ENGINE"] == "envoy"


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"meshdrill.dev/engine": "nginx"}, 'no engine "nginx"; there are python and envoy'),
        ({"inject.istio.io/templates": "waypoint"}, 'no template "waypoint"'),
    ],
)
def test_what_there_is_not_is_refused_by_name(annotations: dict[str, str], message: str) -> None:
    with pytest.raises(InjectionError, match=message):
        inject(template(annotations=annotations), "web", SETTINGS)


def test_a_sidecar_among_the_init_containers_is_refused() -> None:
    asked = template()
    asked["spec"]["initContainers"] = [{"name": "istio-proxy", "image": "auto", "restartPolicy": "Always"}]
    with pytest.raises(InjectionError, match='initContainers: "istio-proxy" is the sidecar'):
        inject(asked, "web", SETTINGS)


def test_an_injected_pod_is_a_pod() -> None:
    injected = inject(template(labels={"app": "a$(b)"}), "web", SETTINGS)
    pod = decode_object(
        {"apiVersion": "v1", "kind": "Pod", **injected, "metadata": {**injected["metadata"], "name": "web-1"}}
    )
    assert isinstance(pod.resource, Pod)
    labels = next(e.value for e in pod.resource.spec.containers[1].env if e.name == "ISTIO_METAJSON_LABELS")
    assert json.loads(labels)["app"] == "a$$(b)"


def test_a_pod_with_a_network_of_its_own_is_captured_and_a_gateway_is_not() -> None:
    captured = replace(SETTINGS, intercepted=True)
    of_sidecar = variables(inject(template(), "web", captured))
    of_gateway = variables(inject(template(annotations={"inject.istio.io/templates": "gateway"}), "in", captured))
    assert of_sidecar["ISTIO_META_INTERCEPTION_MODE"] == "REDIRECT"
    assert "ISTIO_META_INTERCEPTION_MODE" not in of_gateway
    assert of_sidecar["PROXY_ADMIN_ADDRESS"] == of_gateway["PROXY_ADMIN_ADDRESS"] == "127.0.0.1"
    assert "PROXY_ADMIN_ADDRESS" not in variables(inject(template(), "web", SETTINGS))
    by_uid = variables(inject(template(), "web", replace(captured, known_by="uid")))
    assert (by_uid["PROXY_KNOWN_BY"], "PROXY_KNOWN_BY" in of_sidecar) == ("uid", False)


def test_another_way_of_interception_is_refused() -> None:
    with pytest.raises(InjectionError, match="TPROXY"):
        inject(template(annotations={"sidecar.istio.io/interceptionMode": "TPROXY"}), "web", SETTINGS)
