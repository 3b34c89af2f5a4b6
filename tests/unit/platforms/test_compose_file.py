"""The compose file of a mesh: what each container may do, see and wait for."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.api.pod import Container
from mesh.api.security_context import PodSecurityContext
from mesh.config.decode import Manifest, decode_object
from mesh.platforms.base import PlatformError
from mesh.platforms.compose.layout import Layout
from mesh.platforms.compose.write import Wanted, write
from mesh.platforms.docker.security import Rights, rights_of
from mesh.platforms.node.gateway import ingress_gateway

PROBE = {"exec": {"command": ["ready?", "$HOME"]}, "periodSeconds": 7}


def deployment(name: str, *, namespace: str = "default", replicas: int = 1, **container: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "app", "image": f"{name}:1", **container}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def rights(container: Container, pod: PodSecurityContext) -> Rights:
    """Of images whose names say who they run as."""
    return rights_of(container, pod, {"Config": {"User": "root" if container.image == "root:1" else "1000"}})


def written(folder: Path, *manifests: dict[str, Any]) -> dict[str, Any]:
    objects: list[Manifest] = [decode_object(each) for each in (*ingress_gateway(9080), *manifests)]
    file = write(Wanted("shop", "python", "http://127.0.0.1:9080", "10.1.2.0/24", objects), folder, rights)
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


def test_a_pod_is_its_network_its_rules_and_its_containers_one_after_the_other(tmp_path: Path) -> None:
    template = deployment("web", command=["serve", "$(PORT)"], args=["a$b"], ports=[{"containerPort": 80}])
    template["spec"]["template"]["spec"]["initContainers"] = [{"name": "first", "image": "i:1"}]
    services = written(tmp_path / "out", template)["services"]
    mine = [name for name in services if name.partition(".")[0] == "web"]
    assert mine == ["web", "web.istio-init", "web.first", "web.app", "web.istio-proxy"]
    completed = {"condition": "service_completed_successfully"}
    assert services["web.first"]["depends_on"] == {"web.istio-init": completed}
    for name in ("web.app", "web.istio-proxy"):
        assert services[name]["depends_on"] == {"web.first": completed}
        assert services[name]["network_mode"] == "service:web"
    assert services["web.app"]["entrypoint"] == ["serve", "80"]
    assert services["web.app"]["command"] == ["a$$b"]  # compose makes one of the two
    rules = json.loads(services["web.istio-init"]["environment"]["MESHDRILL_POD"])
    assert rules["address"] == services["web"]["networks"]["mesh"]["ipv4_address"]
    proxy = services["web.istio-proxy"]
    uid, _, gid = proxy["user"].partition(":")
    assert f"--uid-owner {uid} --gid-owner {gid} " in rules["rules"]
    assert proxy["group_add"]
    assert all(f"--gid-owner {group} --suppl-groups" in rules["rules"] for group in proxy["group_add"])


def test_nobody_keeps_a_capability_but_who_sets_rules_and_who_steps_down(tmp_path: Path) -> None:
    services = written(tmp_path / "out", deployment("web"), deployment("root"))["services"]
    kept = {name: service["cap_add"] for name, service in services.items() if "cap_add" in service}
    jobs = {name: ["NET_ADMIN", "NET_RAW"] for name in services if name.endswith(".istio-init")}
    stepping_down = kept.pop("root.app")
    assert kept == jobs
    assert "SETUID" in stepping_down
    assert not {"NET_ADMIN", "NET_RAW", "SYS_ADMIN"} & set(stepping_down)
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service.get("read_only", False) is (service["image"] == "meshdrill/proxy:latest"), name
        assert not service.get("privileged")


def test_who_sees_tokens_and_the_control_planes_state(tmp_path: Path) -> None:
    document = written(tmp_path / "out", deployment("web"), deployment("other"))
    mounts = {
        name: [each.split(":")[0] for each in service.get("volumes", ())]
        for name, service in document["services"].items()
    }
    seen = {name: [volume for volume in mounted if not volume.startswith("./")] for name, mounted in mounts.items()}
    assert {name for name, volumes in seen.items() if "control.state" in volumes} == {"control.discovery", "node"}
    assert {name for name, volumes in seen.items() if "web.proxy" in volumes} == {"web.istio-proxy", "node"}
    assert {name for name, volumes in seen.items() if "web.sockets" in volumes} == {"web", "node"}
    assert seen["web.app"] == []
    for volume in document["volumes"].values():
        assert volume["driver_opts"]["type"] == "tmpfs"  # no key and no token is ever on a disk


def test_only_the_gateway_is_published_and_on_loopback_alone(tmp_path: Path) -> None:
    document = written(tmp_path / "out", deployment("web", ports=[{"containerPort": 80}]))
    published = {name: service["ports"] for name, service in document["services"].items() if "ports" in service}
    assert published == {"istio-ingressgateway": ["127.0.0.1:9080:8080"]}
    joined = {name: set(service["networks"]) for name, service in document["services"].items() if "networks" in service}
    assert joined == {"control": {"mesh"}, "web": {"mesh"}, "istio-ingressgateway": {"mesh", "edge"}}
    assert document["networks"]["mesh"]["internal"] is True
    rules = json.loads(document["services"]["istio-ingressgateway.istio-init"]["environment"]["MESHDRILL_POD"])["rules"]
    assert "--dport 8080 -j DNAT --to-destination 10.1.2.16" in rules


def test_the_folder_is_for_one_user_and_says_what_the_node_is_to_tell(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        written(tmp_path / "out", deployment("web", replicas=2), deployment("gone", replicas=0))
    finally:
        os.umask(mask)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "out").rglob("*") if file.is_file()}
    # The containers' users are nobody that the host knows, so what keeps others out is the folder.
    assert modes == {"compose.yaml": 0o600, "mesh.json": 0o644, "resolv.conf": 0o644, "hosts": 0o644}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700
    layout = Layout.load((tmp_path / "out" / "mesh.json").read_text())
    assert layout.control == "10.1.2.2"
    assert dict(layout.addresses) == {"istio-ingressgateway": "10.1.2.16", "web-1": "10.1.2.17", "web-2": "10.1.2.18"}
    assert [pod["metadata"]["name"] for pod in layout.pods] == list(layout.addresses)


def test_a_command_that_tells_readiness_is_the_containers_health_check(tmp_path: Path) -> None:
    services = written(tmp_path / "out", deployment("web", readinessProbe=PROBE))["services"]
    assert services["web.app"]["healthcheck"]["test"] == ["CMD", "ready?", "$$HOME"]
    assert services["web.app"]["healthcheck"]["interval"] == "7s"
    assert "healthcheck" not in services["web.istio-proxy"]


def test_pods_of_one_name_in_two_namespaces_are_told_apart(tmp_path: Path) -> None:
    services = written(tmp_path / "out", deployment("web"), deployment("web", namespace="other"))["services"]
    assert {"web.app", "web.other.app"} <= set(services)


def test_what_cannot_be_told_apart_or_carried_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match='two services of the compose file would be called "node"'):
        written(tmp_path / "out", deployment("node"))
    mounted = deployment("web")
    mounted["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "hostPath": {"path": "/data"}}]
    with pytest.raises(PlatformError, match="not mounted by the compose platform"):
        written(tmp_path / "out", mounted)
    strange = deployment("web")
    strange["spec"]["template"]["metadata"]["annotations"] = {"meshdrill.dev/engine": "other"}
    with pytest.raises(PlatformError, match="no engine"):
        written(tmp_path / "out", strange)


def test_volumes_are_files_of_the_folder_or_memory(tmp_path: Path) -> None:
    mounts = [{"name": "settings", "mountPath": "/etc/web"}, {"name": "cache", "mountPath": "/cache"}]
    web = deployment("web", volumeMounts=mounts)
    volumes = [{"name": "settings", "configMap": {"name": "web"}}, {"name": "cache", "emptyDir": {}}]
    web["spec"]["template"]["spec"]["volumes"] = volumes
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"color": "red"}}
    for _ in range(2):  # a second time over the first
        document = written(tmp_path / "out", web, settings)
    files, cache = document["services"]["web.app"]["volumes"][-2:]
    assert (files["type"], files["target"], files["read_only"]) == ("bind", "/etc/web", True)
    assert (tmp_path / "out" / files["source"] / "color").read_text() == "red"
    assert files["source"].startswith("./")
    assert (cache["type"], cache["source"], cache["read_only"]) == ("volume", "web.cache", False)
    assert "mode=0777" in document["volumes"]["web.cache"]["driver_opts"]["o"]


def test_security_contexts_and_limits_are_composes_own_words(tmp_path: Path) -> None:
    own = {"runAsUser": 7, "readOnlyRootFilesystem": True}
    limits = {"limits": {"memory": "64Mi", "cpu": "500m"}}
    app = written(tmp_path / "out", deployment("web", securityContext=own, resources=limits))["services"]["web.app"]
    assert (app["user"], app["read_only"], "cap_add" in app) == ("7", True, False)
    assert (app["mem_limit"], app["cpu_quota"], app["cpu_period"]) == (64 << 20, 50_000, 100_000)
