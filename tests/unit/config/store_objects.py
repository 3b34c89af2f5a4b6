"""Objects to put into a store, and what tests ask it for."""

from __future__ import annotations

from mesh.config.decode import Manifest, decode_object
from mesh.config.keys import Key
from mesh.config.store import Store

REVIEWS = Key("Service", "default", "reviews")


def service(name: str = "reviews", port: int = 9080, **metadata: object) -> Manifest:
    return decode_object(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, **metadata},
            "spec": {"ports": [{"name": "http", "port": port}]},
        }
    )


def with_status(manifest: Manifest) -> Manifest:
    return decode_object({**manifest.raw, "status": {"loadBalancer": {}}})


def fault(
    name: str = "f", *, laid: tuple[Manifest, ...] = (), hidden: tuple[Key, ...] = (), lease: float = 15
) -> Manifest:
    deletions = [{"apiVersion": "v1", "kind": key.kind, "namespace": key.namespace, "name": key.name} for key in hidden]
    return decode_object(
        {
            "apiVersion": "meshdrill.dev/v1alpha1",
            "kind": "Fault",
            "metadata": {"name": name},
            "spec": {"leaseSeconds": lease, "resources": [dict(m.raw) for m in laid], "deletions": deletions},
        }
    )


def version(manifest: Manifest) -> int:
    return int(manifest.resource.metadata.resource_version)


def port(store: Store, key: Key = REVIEWS) -> int:
    return int(store.get(key).raw["spec"]["ports"][0]["port"])
