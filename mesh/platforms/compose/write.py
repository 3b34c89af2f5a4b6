"""Writes a mesh as a folder for `docker compose`: the compose file, and the few files that its containers are given."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import yaml

from mesh.api.pod import Container, Pod
from mesh.api.security_context import PodSecurityContext
from mesh.config.decode import Manifest, decode_object
from mesh.injector.inject import InjectionError
from mesh.platforms.base import PROXY_CONTAINER, PlatformError
from mesh.platforms.compose.layout import MESH, Layout, pods_of, proxy_settings
from mesh.platforms.compose.services import (
    CONTROL,
    EDGE_NETWORK,
    MESH_NETWORK,
    ComposedPod,
    control_plane,
    labels,
    memory,
)
from mesh.platforms.docker.habitat import DockerHabitat
from mesh.platforms.docker.network import Addresses
from mesh.platforms.docker.rules import PROXY_UID, ProxyIds, pod_rules
from mesh.platforms.docker.security import Rights
from mesh.platforms.docker.sockets import PodSockets
from mesh.platforms.netns.interception import read_interception
from mesh.platforms.node.inventory import Inventory
from mesh.platforms.process.container import ContainerPlan
from mesh.platforms.process.plan import Folders, PodPlan
from mesh.platforms.process.refusals import refuse_what_is_lacking
from mesh.platforms.process.volume_folder import VOLUMES, remove_volumes
from mesh.platforms.process.volumes import PodVolumes, empty_dirs

FILE = "compose.yaml"
_ANY_MODE = 0o777  # an image has users of its own, who read what all may
_ENVIRONMENT = {"PYTHONUNBUFFERED": "1"}


class RightsOf(Protocol):
    """As whom an app runs, and with what rights, by its image too; see `mesh.platforms.docker.images`."""

    def __call__(self, container: Container, pod: PodSecurityContext) -> Rights:
        """Raises PlatformError for an image that cannot come, and for rights that no app is given."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `meshdrill compose` was asked for. `subnet` is the network of the pods; it must be nobody else's."""

    name: str
    engine: str
    gateway: str
    subnet: str
    manifests: Sequence[Manifest]


def write(wanted: Wanted, folder: Path, rights_of: RightsOf) -> Path:
    """The compose file. What was in the folder under the same names is replaced. Raises PlatformError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)  # its files are read by users of containers, whom the host does not know
    remove_volumes(folder / VOLUMES)
    return _Writer(wanted, folder.resolve(), rights_of).write()


class _Writer:
    def __init__(self, wanted: Wanted, folder: Path, rights_of: RightsOf) -> None:
        self._wanted = wanted
        self._folder = folder
        self._rights_of = rights_of
        self._addresses = Addresses(wanted.subnet)
        self._inventory = Inventory()
        self._inventory.seed(wanted.manifests)

    def write(self) -> Path:
        wanted, control = self._wanted, self._addresses.control
        try:
            pods = pods_of(list(self._inventory.deployments()), proxy_settings(control, wanted.engine))
        except InjectionError as error:
            raise PlatformError(str(error)) from error
        addresses = {manifest["metadata"]["name"]: self._addresses.take() for manifest in pods}
        composed = [self._composed(manifest, addresses[manifest["metadata"]["name"]]) for manifest in pods]
        raw = [dict(manifest.raw) for manifest in wanted.manifests]
        layout = Layout(wanted.name, wanted.engine, wanted.gateway, control, raw, pods, addresses)
        _put(self._folder / MESH.name, layout.dump(), 0o644)
        return _put(self._folder / FILE, _text(_document(wanted, control, self._addresses.gateway, composed)), 0o600)

    def _composed(self, manifest: Mapping[str, Any], address: str) -> ComposedPod:
        pod = decode_object(dict(manifest)).resource
        assert isinstance(pod, Pod)
        refuse_what_is_lacking(pod, platform="compose", images=True)
        control, containers = self._addresses.control, pod.spec.all_containers
        has_app = {container.name for container in pod.spec.containers} > {PROXY_CONTAINER}
        interception = read_interception(pod.metadata.annotations) if has_app else None
        surroundings = self._inventory.surroundings(pod.namespace)
        empty = {name: f"{pod.name}.{name}" for name in empty_dirs(pod)}
        volumes = PodVolumes(pod, surroundings, self._folder / VOLUMES / pod.name, empty.__getitem__, _ANY_MODE)
        sockets = PodSockets(pod.name, address)
        habitat = DockerHabitat(sockets, control, pod, self._folder / "pods" / pod.name, volumes, outside={})
        proxy = ProxyIds.drawn()
        plan = PodPlan(pod, habitat, surroundings, Folders(Path("/"), Path("/")), base=_ENVIRONMENT)
        return ComposedPod(
            mesh=self._wanted.name,
            pod=plan.pod,
            plans=[self._relative(each) for each in plan.containers],
            rules=pod_rules(interception, control, proxy),
            etc={place: f"./pods/{pod.name}/{Path(place).name}" for place in habitat.etc},
            rights={
                each.name: self._rights_of(each, pod.spec.security_context)
                for each in containers
                if each.name != PROXY_CONTAINER
            },
            empty_dirs=list(empty.values()),
            proxy=proxy,
        )

    def _relative(self, plan: ContainerPlan) -> ContainerPlan:
        """Compose reads a path that begins with a dot from the file's folder, which may be moved."""
        own = f"{self._folder}/"
        return replace(plan, mounts=[replace(each, source=each.source.replace(own, "./", 1)) for each in plan.mounts])


def _document(wanted: Wanted, control: str, gateway: str, pods: Sequence[ComposedPod]) -> dict[str, Any]:
    services = control_plane(wanted.name, control, pods)
    own = labels(wanted.name, "", "", "")
    volumes = {f"{CONTROL}.state": memory(PROXY_UID, "0700", own)}
    for pod in pods:
        if taken := pod.services().keys() & services.keys():
            raise PlatformError(f'two services of the compose file would be called "{min(taken)}"')
        services |= pod.services()
        volumes |= pod.volumes()
    ipam = {"config": [{"subnet": wanted.subnet, "gateway": gateway}]}
    # Without masquerade no answer finds its way back from beyond the host.
    lonely = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    networks = {
        MESH_NETWORK: {"driver": "bridge", "internal": True, "ipam": ipam, "labels": own},
        EDGE_NETWORK: {"driver": "bridge", "driver_opts": lonely, "labels": own},
    }
    return {"services": services, "networks": networks, "volumes": volumes}


def _text(document: dict[str, Any]) -> str:
    head = "# Written by `meshdrill compose`: change the manifests, and write it again.\n"
    return head + yaml.dump(_literal(document), Dumper=_Plain, sort_keys=False, width=120)


class _Plain(yaml.SafeDumper):
    """Without anchors, which nobody likes to read."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _literal(value: Any) -> Any:
    """Compose reads `$` as the beginning of a variable."""
    if isinstance(value, dict):
        return {key: _literal(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_literal(each) for each in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def _put(file: Path, text: str, mode: int) -> Path:
    file.touch(mode=0o600)
    file.chmod(mode)
    file.write_text(text)
    os.chmod(file, mode)
    return file
