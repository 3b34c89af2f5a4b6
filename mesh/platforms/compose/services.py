"""A pod, and the control plane, as services of a compose file. Pure.

A pod is a service that owns the network and needs no privilege, a job that sets the network's rules and ends, the init
containers one after another, and then the app's containers and the sidecar, which join the network.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.api.pod import Container, ContainerPort, Pod, Probe
from mesh.injector.inject import PROXY_IMAGE
from mesh.platforms.base import PROXY_CONTAINER
from mesh.platforms.compose.layout import MESH, PROXIES, READY, RUN, SOCKETS, STATE
from mesh.platforms.docker import ownership
from mesh.platforms.docker.limits import limits_of
from mesh.platforms.docker.pod_init import RULES, SOCKET, VARIABLE
from mesh.platforms.docker.pod_init import SOCKETS as SOCKETS_ONLY
from mesh.platforms.docker.rules import PROXY_UID, ProxyIds
from mesh.platforms.docker.security import Rights
from mesh.platforms.netns.forwards import LOOPBACK
from mesh.platforms.process.container import ContainerPlan
from mesh.platforms.process.volumes import Mount

Service = dict[str, Any]

MESH_NETWORK, EDGE_NETWORK = "mesh", "edge"
"""The pods' own, which leads nowhere else, and one of pods with ports of the host: nothing gets out by it either."""

CONTROL, NODE = "control", "node"
DISCOVERY = f"{CONTROL}.discovery"
PROXY_FOLDER = "/etc/istio/proxy"

_NOBODY = "65534:65534"
_SOCKETS_FOLDER = SOCKET.rpartition("/")[0]
_PROXY_USER = f"{PROXY_UID}:{PROXY_UID}"
_POD_INIT = ["python", "-I", "-m", "mesh.platforms.docker.pod_init"]
_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv6.conf.all.disable_ipv6": "1"}
_BASE: Service = {
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "init": True,
    "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "1"}},
}
_OURS = {**_BASE, "image": PROXY_IMAGE, "read_only": True}
_NO_COPY = {"nocopy": True}
_STARTED = {"condition": "service_started"}
_COMPLETED = {"condition": "service_completed_successfully"}


@dataclass(frozen=True, slots=True)
class ComposedPod:
    """`etc` are files by where containers see them. `rights` are the apps', by container, `empty_dirs` what the pod's
    empty folders are called in the file, and `proxy` is who the sidecar runs as."""

    mesh: str
    pod: Pod
    plans: Sequence[ContainerPlan]
    rules: str
    etc: Mapping[str, str]
    rights: Mapping[str, Rights]
    empty_dirs: Sequence[str]
    proxy: ProxyIds

    @property
    def name(self) -> str:
        return self.pod.name

    @property
    def proxy_volume(self) -> str:
        return f"{self.name}.proxy"

    @property
    def sockets_volume(self) -> str:
        return f"{self.name}.sockets"

    def services(self) -> dict[str, Service]:
        jobs = {f"{self.name}.istio-init": self._rules_job()}
        declared = {container.name: container for container in self.pod.spec.all_containers}
        ready = list(jobs)[-1]
        for plan in self.plans:
            if plan.is_init:
                jobs[f"{self.name}.{plan.name}"] = self._container(plan, declared[plan.name], ready)
                ready = f"{self.name}.{plan.name}"
        others = {
            f"{self.name}.{plan.name}": self._container(plan, declared[plan.name], ready)
            for plan in self.plans
            if not plan.is_init
        }
        return {self.name: self._network(), **jobs, **others}

    def volumes(self) -> dict[str, Any]:
        labels = self._labels("")
        found = {self.sockets_volume: memory(65534, "0755", labels)}
        if any(plan.name == PROXY_CONTAINER for plan in self.plans):
            found[self.proxy_volume] = memory(PROXY_UID, "0700", labels)
        return found | {name: memory(0, "0777", labels) for name in self.empty_dirs}

    def _network(self) -> Service:
        made = owner(self.name, self.pod.status.pod_ip, self._labels(ownership.INFRA))
        made["volumes"] = [f"{self.sockets_volume}:{_SOCKETS_FOLDER}"]
        if ports := self._host_ports():
            made["networks"][EDGE_NETWORK] = {}
            made["ports"] = [f"{port.host_ip or LOOPBACK}:{port.host_port}:{port.container_port}" for port in ports]
        return made

    def _host_ports(self) -> list[ContainerPort]:
        return [port for container in self.pod.spec.containers for port in container.ports if port.host_port]

    def _rules_of_a_gateway(self) -> str:
        """A gateway listens at the pod's address, and what comes to the host's ports comes to another one."""
        address = self.pod.status.pod_ip
        rules = [
            f"-A PREROUTING -p tcp --dport {port.container_port} -j DNAT --to-destination {address}"
            for port in self._host_ports()
        ]
        return "\n".join(("*nat", *rules, "COMMIT", "")) if rules else ""

    def _rules_job(self) -> Service:
        """The one container with a capability of consequence; it is gone before an app starts."""
        rules = self.rules or self._rules_of_a_gateway()
        wanted = {"address": self.pod.status.pod_ip, "rules": rules, "folders": []}
        return {
            **_OURS,
            "entrypoint": [*_POD_INIT, RULES],
            "user": "0:0",
            "cap_add": ["NET_ADMIN", "NET_RAW"],
            "environment": {VARIABLE: json.dumps(wanted), "XTABLES_LOCKFILE": "/dev/null"},
            "network_mode": f"service:{self.name}",
            "depends_on": {self.name: _STARTED},
            "labels": self._labels("istio-init"),
        }

    def _container(self, plan: ContainerPlan, declared: Container, after: str) -> Service:
        made: Service = {
            **_BASE,
            "image": declared.image,
            "environment": dict(plan.env),
            "network_mode": f"service:{self.name}",
            "depends_on": {after: _COMPLETED},
            "volumes": [*(f"{source}:{place}:ro" for place, source in self.etc.items()), *map(_mounted, plan.mounts)],
            "restart": "no" if plan.restart == "Never" else "on-failure",
            "stop_grace_period": f"{self.pod.spec.termination_grace_period_seconds}s",
            "labels": self._labels(plan.name),
        }
        words = len(declared.command)
        if plan.argv[:words]:
            made["entrypoint"] = list(plan.argv[:words])
        if plan.argv[words:]:
            made["command"] = list(plan.argv[words:])
        if declared.working_dir:
            made["working_dir"] = declared.working_dir
        is_proxy = plan.name == PROXY_CONTAINER
        rights = Rights(self.proxy.user, self.proxy.groups, read_only=True) if is_proxy else self.rights[plan.name]
        made |= _of(rights) | limits_of(declared)
        if is_proxy:
            made |= {"working_dir": PROXY_FOLDER, "tmpfs": ["/tmp"]}  # noqa: S108
            made["volumes"].append(f"{self.proxy_volume}:{PROXY_FOLDER}")
        if plan.readiness is not None and plan.readiness.exec is not None:
            made["healthcheck"] = health(plan.readiness, plan.readiness.exec.command)
        return made

    def _labels(self, container: str) -> dict[str, str]:
        return labels(self.mesh, self.pod.namespace, self.name, container)


def _of(rights: Rights) -> dict[str, Any]:
    given = {
        "user": rights.user,
        "group_add": [str(group) for group in rights.groups],
        "cap_add": list(rights.capabilities),
        "read_only": rights.read_only,
    }
    return {key: value for key, value in given.items() if value}


def _mounted(mount: Mount) -> dict[str, Any]:
    """Paths begin with a dot, and what is not one is a volume, empty even where the image is not."""
    made = {"source": mount.source, "target": mount.target, "read_only": not mount.writable}
    return {"type": "bind", **made} if mount.source.startswith(".") else {"type": "volume", **made, "volume": _NO_COPY}


def control_plane(mesh: str, address: str, pods: Sequence[ComposedPod]) -> dict[str, Service]:
    """Its network, itself, and the node beside it."""
    join = {"network_mode": f"service:{CONTROL}", "user": _PROXY_USER, "restart": "on-failure"}
    state = f"{CONTROL}.state:{STATE}"
    return {
        CONTROL: owner(CONTROL, address, labels(mesh, "", CONTROL, ownership.INFRA))
        | {"tmpfs": [f"{_SOCKETS_FOLDER}:uid=65534,gid=65534,mode=0700"]},  # nobody asks it for a socket
        DISCOVERY: {
            **_OURS,
            **join,
            "entrypoint": ["python", "-m", "mesh.control", "--state", str(STATE), "--address", address],
            "depends_on": {CONTROL: _STARTED},
            "volumes": [state],
            "tmpfs": ["/tmp"],  # noqa: S108
            "labels": labels(mesh, "", CONTROL, "discovery"),
        },
        NODE: {
            **_OURS,
            **join,
            "entrypoint": ["python", "-m", "mesh.platforms.compose.node"],
            "environment": {"MESHDRILL_STATE": str(RUN)},
            "depends_on": {DISCOVERY: _STARTED, **{pod.name: _STARTED for pod in pods}},
            "volumes": [
                f"{state}:ro",
                f"./{MESH.name}:{MESH}:ro",
                *(f"{pod.sockets_volume}:{SOCKETS / pod.name}:ro" for pod in pods),
                *(f"{pod.proxy_volume}:{PROXIES / pod.name}" for pod in pods if pod.proxy_volume in pod.volumes()),
            ],
            "tmpfs": [f"{RUN}:uid={PROXY_UID},gid={PROXY_UID},mode=0700"],
            "healthcheck": {"test": ["CMD", "test", "-e", str(READY)], "interval": "2s", "retries": 60},
            "labels": labels(mesh, "", CONTROL, NODE),
        },
    }


def owner(name: str, address: str, labels_: Mapping[str, str]) -> Service:
    """Of a network that others join. It makes sockets there for the node, and may do nothing else."""
    return {
        **_OURS,
        "entrypoint": [*_POD_INIT, SOCKETS_ONLY],
        "user": _NOBODY,
        "hostname": ownership.host_name(name),
        "sysctls": dict(_SYSCTLS),
        "networks": {MESH_NETWORK: {"ipv4_address": address}},
        "labels": dict(labels_),
    }


def memory(uid: int, mode: str, labels_: Mapping[str, str]) -> dict[str, Any]:
    """A volume that is never on a disk, and gone with the last container that uses it."""
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"uid={uid},gid={uid},mode={mode}"}
    return {"driver": "local", "driver_opts": options, "labels": dict(labels_)}


def labels(mesh: str, namespace: str, pod: str, container: str) -> dict[str, str]:
    """Without state and owner, by which `meshdrill down` knows what it may remove."""
    given = {
        ownership.MESH: mesh,
        ownership.NAMESPACE: namespace,
        ownership.POD: pod,
        ownership.CONTAINER: container,
    }
    return {label: value for label, value in given.items() if value}


def health(probe: Probe, command: Sequence[str]) -> dict[str, Any]:
    return {
        "test": ["CMD", *command],
        "interval": f"{probe.period_seconds}s",
        "timeout": f"{probe.timeout_seconds}s",
        "retries": probe.failure_threshold,
        "start_period": f"{probe.initial_delay_seconds}s",
    }
