"""`MeshClient`: what can be asked of a running mesh."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType

from mesh.client import answers
from mesh.client.errors import MeshError, MeshNotRunning
from mesh.client.faults import Fault
from mesh.client.kinds import Kind, find_kind
from mesh.client.prometheus import Metrics, parse_metrics
from mesh.client.transport import APPLY, Transport, checked
from mesh.client.types import (
    ApplyResult,
    Certificate,
    Credentials,
    Manifest,
    MeshFile,
    ObjectList,
    Pod,
    ProxyStatus,
    Token,
)
from mesh.client.watch import Watch

ADMIN_PORT = 15000
PROMETHEUS_PORT = 15090
_DRY_RUN = {"dryRun": "All"}
_READY_POLL_S = 0.05


class MeshClient:
    """A client of one mesh; may be used from several threads. Every wait is bounded by `timeout_s` unless said.

    All methods raise ApiError for a refusal and MeshNotRunning when nobody answers. `kind` is a kind's name, plural
    or short name in any case ("VirtualService", "virtualservices", "vs").
    """

    def __init__(self, api: str, token_file: Path, root_cert: Path, *, timeout_s: float = 10.0) -> None:
        self.mesh: MeshFile | None = None
        self._transport = Transport(api, token_file, root_cert, timeout_s)
        self._timeout_s = timeout_s

    @classmethod
    def from_state(cls, state: Path, *, timeout_s: float = 10.0) -> MeshClient:
        """The client of the mesh whose state folder is `state`, as its admin. Raises MeshNotRunning."""
        mesh = MeshFile.read(state)
        client = cls(mesh.api, mesh.token_file, mesh.root_cert, timeout_s=timeout_s)
        client.mesh = mesh
        return client

    def __enter__(self) -> MeshClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    # Objects

    def get(self, kind: str, name: str, namespace: str = "default") -> Manifest:
        """One object, as the faults that are on have it."""
        return answers.manifest(self._transport.call("GET", find_kind(kind).path(namespace, name)))

    def list(self, kind: str, namespace: str | None = None, *, labels: Mapping[str, str] = {}) -> ObjectList:
        """The objects of a kind, of all namespaces if none is given, that have all of `labels`."""
        return answers.object_list(self._transport.call("GET", find_kind(kind).path(namespace), _selector(labels)))

    def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """A new object as it was stored. ApiError 409 (AlreadyExists)."""
        kind, namespace, _ = _place(manifest)
        return answers.manifest(self._transport.call("POST", kind.path(namespace), _dry(dry_run), manifest))

    def replace(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """The object as replaced. ApiError 404, or 409 (Conflict) when its metadata.resourceVersion is stale."""
        kind, namespace, name = _place(manifest)
        return answers.manifest(self._transport.call("PUT", kind.path(namespace, name), _dry(dry_run), manifest))

    def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """The object as created or replaced; with `dry_run` it is only validated."""
        kind, namespace, name = _place(manifest)
        path = kind.path(namespace, name)
        return answers.manifest(
            self._transport.call("PATCH", path, _dry(dry_run), manifest, content_type=APPLY),
        )

    def apply_all(self, manifests: Iterable[Manifest], *, dry_run: bool = False) -> ApplyResult:
        """All objects in one transaction: if one is refused, none is stored; ApiError.causes name every problem."""
        answer = self._transport.call("POST", "/meshdrill/v1/apply", _dry(dry_run), [*manifests])
        return answers.apply_result(answer)

    def delete(self, kind: str, name: str, namespace: str = "default") -> str:
        """The resourceVersion from which the object is gone. ApiError 404."""
        return answers.deletion(self._transport.call("DELETE", find_kind(kind).path(namespace, name)))

    def watch(
        self,
        kind: str,
        since: str | None = None,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] = {},
    ) -> Watch:
        """The changes of a kind after the version `since`; without it, the present objects come first, as ADDED.

        To a watch with `labels`, an object that gets them is ADDED, and one that loses them is DELETED.
        """
        return Watch(self._transport, find_kind(kind).path(namespace), _selector(labels), since)

    # Proxies

    def proxies(self) -> tuple[ProxyStatus, ...]:
        """Every connected proxy and how far its configuration is."""
        return answers.proxies(self._transport.call("GET", "/meshdrill/v1/proxies"))

    def wait_synced(self, resource_version: str | None = None, timeout_s: float = 10.0) -> None:
        """Return when every connected proxy has taken what follows from `resource_version` (None: all so far).

        ApiError 504 (Timeout) names the late proxies in its causes, 409 carries their NACKs.
        """
        query = {"timeoutSeconds": f"{timeout_s:g}"}
        if resource_version is not None:
            query["resourceVersion"] = resource_version
        self._transport.call("GET", "/meshdrill/v1/sync", query, patience_s=timeout_s)

    def names(
        self, known: str = "", *, namespace: str = "default", timeout_s: float = 0.0
    ) -> tuple[Mapping[str, Sequence[str]], str] | None:
        """What DNS answers in a namespace, addresses by full name, and the table's tag.

        With `known`, the tag of an earlier table: None when there is no other one within `timeout_s`.
        """
        query = {"namespace": namespace, "timeoutSeconds": f"{timeout_s:g}"}
        changed = self._transport.changed("/meshdrill/v1/names", query, known, patience_s=timeout_s)
        if changed is None:
            return None
        text, tag = changed
        names: Mapping[str, Sequence[str]] = json.loads(text)["names"]
        return names, tag

    def fault(
        self,
        name: str,
        resources: Iterable[Manifest] = (),
        deletions: Iterable[Manifest] = (),
        *,
        namespace: str = "default",
        lease_s: int = 15,
        sync_timeout_s: float = 10.0,
    ) -> Fault:
        """A context manager: inside it `resources` lie over the mesh's configuration and `deletions` are hidden.

        On entry every proxy has taken it, on exit every proxy has taken its end, also after an exception. The lease is
        renewed meanwhile; if this process is killed, the fault ends `lease_s` seconds later. Raises FaultLost at exit
        when the fault ended before its block did. A deletion is a manifest, or its apiVersion, kind, namespace, name.
        """
        return Fault(self, name, namespace, resources, deletions, lease_s=lease_s, sync_timeout_s=sync_timeout_s)

    # Identity

    def create_token(
        self, service_account: str, namespace: str, pod_name: str, pod_uid: str, *, ttl_s: int = 86_400
    ) -> Token:
        """A token with which that pod, and no other, gets certificates of its service account (a TokenRequest)."""
        path = f"{find_kind('ServiceAccount').path(namespace, service_account)}/token"
        reference = {"apiVersion": "v1", "kind": "Pod", "name": pod_name, "uid": pod_uid}
        spec = {"audiences": ["meshdrill-ca"], "expirationSeconds": ttl_s, "boundObjectRef": reference}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return answers.token(self._transport.call("POST", path, body=request))

    def sign_certificate(
        self,
        csr: str,
        *,
        ttl_s: int | None = None,
        identity: str | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Certificate:
        """A certificate for the key of `csr` (PEM), for the identity that the token proves.

        With the admin's token instead for the `identity` (a SPIFFE URI of any trust domain) and the span given, which
        may be over: this is how a drill comes by a bad certificate.
        """
        request: dict[str, object] = {"csr": csr}
        if ttl_s is not None:
            request["ttl_seconds"] = ttl_s
        if identity is not None:
            request["identity"] = identity
        if not_before is not None:
            request["not_before"] = not_before.isoformat()
        if not_after is not None:
            request["not_after"] = not_after.isoformat()
        return answers.certificate(self._transport.call("POST", "/meshdrill/v1/certificates", body=request))

    def issue_credentials(
        self,
        identity: str,
        *,
        ttl_s: int | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Credentials:
        """A fresh key with a certificate for `identity`, signed as `sign_certificate` does for the admin."""
        from mesh.client.keys import make_key_and_csr  # noqa: PLC0415 - cryptography is heavy to load, and few callers need it

        key, csr = make_key_and_csr()
        signed = self.sign_certificate(csr, ttl_s=ttl_s, identity=identity, not_before=not_before, not_after=not_after)
        return Credentials(key, "".join(signed.chain), signed.root, signed.not_after)

    # Pods and pages

    def pods(self, *, labels: Mapping[str, str] = {}, namespace: str | None = None) -> tuple[Pod, ...]:
        """The pods that have all of `labels`, of all namespaces if none is given."""
        return tuple(Pod.from_manifest(manifest) for manifest in self.list("Pod", namespace, labels=labels).items)

    def metrics(self, pod: Pod | str) -> Metrics:
        """What the pod's sidecar counts. `pod` by name is `<name>` (in `default`) or `<name>.<namespace>`."""
        return parse_metrics(self._page(self._found(pod), PROMETHEUS_PORT, "/stats/prometheus", "GET"))

    def admin(self, pod: Pod | str, path: str, method: str = "GET") -> str:
        """A page of the pod's Envoy admin interface, such as `/clusters` or `/config_dump`."""
        return self._page(self._found(pod), ADMIN_PORT, path, method)

    def control_metrics(self) -> Metrics:
        """What the control plane counts."""
        return parse_metrics(self._transport.text("GET", "/metrics"))

    def is_ready(self) -> bool:
        """Whether the control plane is there and ready."""
        try:
            self._transport.text("GET", "/readyz")
        except MeshError:
            return False
        return True

    def wait_ready(self, timeout_s: float) -> None:
        """Return when the control plane is ready. Raises the last error met when the time is up."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._transport.text("GET", "/readyz")
            except MeshError:
                if time.monotonic() >= deadline:
                    raise
            else:
                return
            time.sleep(_READY_POLL_S)

    def _found(self, pod: Pod | str) -> Pod:
        if isinstance(pod, Pod):
            return pod
        name, _, namespace = pod.partition(".")
        return Pod.from_manifest(self.get("Pod", name, namespace or "default"))

    def _page(self, pod: Pod, port: int, path: str, method: str) -> str:
        if not pod.ip:
            raise MeshError(f"pod {pod.name}.{pod.namespace} has no address yet (phase {pod.phase})")
        host, reached = pod.reach(port)
        connection = http.client.HTTPConnection(host, reached, timeout=self._timeout_s)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return checked(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise MeshNotRunning(
                f"the sidecar of pod {pod.name}.{pod.namespace} does not answer at http://{host}:{reached}{path} "
                f"({error or type(error).__name__}): see `meshdrill logs {pod.name}`"
            ) from error
        finally:
            connection.close()


def _place(manifest: Manifest) -> tuple[Kind, str, str]:
    """Kind, namespace and name of a manifest. Raises MeshError if it lacks them or is of an unknown kind."""
    metadata = manifest.get("metadata") or {}
    if "kind" not in manifest or "name" not in metadata:
        raise MeshError("a manifest needs kind and metadata.name")
    return find_kind(manifest["kind"]), metadata.get("namespace") or "default", metadata["name"]


def _selector(labels: Mapping[str, str]) -> Mapping[str, str]:
    return {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())} if labels else {}


def _dry(dry_run: bool) -> Mapping[str, str]:
    return _DRY_RUN if dry_run else {}
