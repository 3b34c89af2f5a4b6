"""What is to run: Deployments, and what their environment is made from. No I/O."""

from collections.abc import Iterable, Iterator, Mapping

from mesh.api.core import ConfigMap, Secret, Service
from mesh.config.decode import Manifest, decode_object
from mesh.platforms.base import Surroundings
from mesh.platforms.node.watches import Changed, Listed

SURROUNDING = ("Service", "ConfigMap", "Secret")
KINDS = ("Deployment", *SURROUNDING)

Key = tuple[str, str]


class Inventory:
    """Objects by namespace and name, kept in step with the control plane."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Manifest]] = {kind: {} for kind in KINDS}

    def seed(self, manifests: Iterable[Manifest]) -> None:
        """What is about to be applied, so that apps need not wait for the control plane."""
        for manifest in manifests:
            if manifest.kind.name in KINDS:
                self._objects[manifest.kind.name][_key(manifest)] = manifest

    def take(self, change: Listed | Changed) -> None:
        table = self._objects[change.kind]
        if isinstance(change, Listed):
            table.clear()
            for manifest in map(decode_object, change.objects):
                table[_key(manifest)] = manifest
            return
        manifest = decode_object(change.object)
        if change.deleted:
            table.pop(_key(manifest), None)
        else:
            table[_key(manifest)] = manifest

    def deployments(self) -> Iterator[Manifest]:
        yield from self._objects["Deployment"].values()

    def has_deployment(self, namespace: str, name: str) -> bool:
        return (namespace, name) in self._objects["Deployment"]

    def surroundings(self, namespace: str) -> Surroundings:
        return as_surroundings(manifest for kind in SURROUNDING for manifest in self._of(kind, namespace))

    def _of(self, kind: str, namespace: str) -> Iterator[Manifest]:
        return (manifest for (ns, _), manifest in self._objects[kind].items() if ns == namespace)


def as_surroundings(manifests: Iterable[Manifest]) -> Surroundings:
    """What a pod's environment is made from, of one namespace's Services, ConfigMaps and Secrets."""
    resources = [manifest.resource for manifest in manifests]
    services = [own for own in resources if isinstance(own, Service)]
    maps: Mapping[str, ConfigMap] = {own.name: own for own in resources if isinstance(own, ConfigMap)}
    secrets: Mapping[str, Secret] = {own.name: own for own in resources if isinstance(own, Secret)}
    return Surroundings(services, maps, secrets)


def _key(manifest: Manifest) -> Key:
    return manifest.resource.namespace, manifest.resource.name
