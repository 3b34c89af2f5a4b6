"""Kubernetes' REST verbs over the store."""

from __future__ import annotations

import functools
from typing import Any

from aiohttp import web

from mesh.api.kinds import Kind, by_path
from mesh.api.meta import DEFAULT_NAMESPACE
from mesh.config.decode import Manifest, decode_object
from mesh.config.documents import read_documents
from mesh.config.history import Match
from mesh.config.keys import Key, NotFoundError, key_of
from mesh.config.problems import InvalidError
from mesh.config.store import Store
from mesh.config.validate import require_valid, validate
from mesh.control.http.bodies import parse_json, read_body
from mesh.control.http.errors import invalid_manifests, refused_manifests
from mesh.control.http.parameters import parse_selector, parse_version
from mesh.control.http.status import Cause, RequestError, bad_request, json_response, success
from mesh.control.http.watches import Watches

APPLY_TYPE = "application/apply-patch+yaml"
_ROOTS = ("/api/{version}", "/apis/{group}/{version}")


class ObjectsApi:
    """Objects as they are in effect, faults included; what is written goes beneath the faults."""

    def __init__(self, store: Store, watches: Watches) -> None:
        self._store = store
        self._watches = watches

    def routes(self) -> list[web.RouteDef]:
        collections = [root + scope for root in _ROOTS for scope in ("/{plural}", "/namespaces/{namespace}/{plural}")]
        return [
            *(web.get(path, self.list_objects) for path in collections),
            *(web.post(path, self.create) for path in collections),
            *(web.get(path + "/{name}", self.get) for path in collections),
            *(web.put(path + "/{name}", self.replace) for path in collections),
            *(web.patch(path + "/{name}", self.apply) for path in collections),
            *(web.delete(path + "/{name}", self.delete) for path in collections),
            web.post("/meshdrill/v1/apply", self.apply_all),
        ]

    async def list_objects(self, request: web.Request) -> web.StreamResponse:
        kind, api_version = _kind(request)
        match = _match(kind, request.match_info.get("namespace"), request.query.get("labelSelector", ""))
        render = functools.partial(as_version, api_version=api_version)
        if request.query.get("watch", "") in {"1", "true"}:
            since = request.query.get("resourceVersion")
            return await self._watches.serve(request, match, render, None if since is None else parse_version(since))
        version = {"resourceVersion": str(self._store.version)}
        items = [render(manifest) for manifest in self._store.list(kind.name) if match(manifest)]
        return json_response(
            {"kind": f"{kind.name}List", "apiVersion": api_version, "metadata": version, "items": items}
        )

    async def get(self, request: web.Request) -> web.Response:
        _, api_version = _kind(request)
        return json_response(as_version(self._store.get(_key(request)), api_version))

    async def create(self, request: web.Request) -> web.Response:
        kind, api_version = _kind(request)
        if kind.namespaced and "namespace" not in request.match_info:
            raise RequestError(
                405, "MethodNotAllowed", f"create {kind.plural} under namespaces/<namespace>/{kind.plural}"
            )
        dry_run = _is_dry_run(request)
        stored = self._store.create(await _manifest(request), dry_run=dry_run)
        return json_response(as_version(stored, api_version), 201)

    async def replace(self, request: web.Request) -> web.Response:
        _, api_version = _kind(request)
        dry_run = _is_dry_run(request)
        stored = self._store.replace(await _manifest(request), dry_run=dry_run)
        return json_response(as_version(stored, api_version))

    async def apply(self, request: web.Request) -> web.Response:
        _, api_version = _kind(request)
        if request.content_type != APPLY_TYPE:
            raise RequestError(415, "UnsupportedMediaType", f"PATCH takes {APPLY_TYPE} (server-side apply)")
        dry_run = _is_dry_run(request)
        stored = self._store.apply(await _manifest(request), dry_run=dry_run)
        return json_response(as_version(stored, api_version))

    async def delete(self, request: web.Request) -> web.Response:
        self._store.delete(_key(request), dry_run=_is_dry_run(request))
        return json_response(success(str(self._store.version)))

    async def apply_all(self, request: web.Request) -> web.Response:
        dry_run = _is_dry_run(request)
        manifests = _manifests(await read_body(request), request.content_type)
        before = {key: self._resource_version(key) for key in map(key_of, manifests)}
        stored = self._store.apply_all(manifests, dry_run=dry_run)
        items = [
            {"action": _action(before[key_of(manifest)], manifest), "object": as_version(manifest)}
            for manifest in stored
        ]
        version = {"resourceVersion": str(self._store.version)}
        return json_response(
            {"kind": "ApplyResult", "apiVersion": "meshdrill.dev/v1alpha1", "metadata": version, "items": items}
        )

    def _resource_version(self, key: Key) -> str | None:
        try:
            return self._store.get(key).resource.metadata.resource_version
        except NotFoundError:
            return None


def as_version(manifest: Manifest, api_version: str | None = None) -> dict[str, Any]:
    """The object as JSON, in the version that was asked for."""
    return {**manifest.raw, "apiVersion": api_version or manifest.raw["apiVersion"]}


def _match(kind: Kind, namespace: str | None, selector: str) -> Match:
    labels = parse_selector(selector).items()

    def matches(manifest: Manifest) -> bool:
        metadata = manifest.resource.metadata
        in_place = manifest.kind is kind and namespace in {None, metadata.namespace}
        return in_place and labels <= metadata.labels.items()

    return matches


def _action(before: str | None, stored: Manifest) -> str:
    if before is None:
        return "created"
    return "unchanged" if before == stored.resource.metadata.resource_version else "configured"


def _kind(request: web.Request) -> tuple[Kind, str]:
    """The kind of a request's path, and the apiVersion it is asked for in."""
    names = request.match_info
    kind = by_path(names.get("group", ""), names["version"], names["plural"])
    return kind, f"{kind.group}/{names['version']}" if kind.group else names["version"]


def _key(request: web.Request) -> Key:
    kind, _ = _kind(request)
    namespace = request.match_info.get("namespace", "")
    if kind.namespaced != bool(namespace):
        where = f"namespaces/<namespace>/{kind.plural}" if kind.namespaced else kind.plural
        raise RequestError(404, "NotFound", f"one {kind.name} is found under {where}/<name>")
    return Key(kind.name, namespace, request.match_info["name"])


def _is_dry_run(request: web.Request) -> bool:
    asked = request.query.getall("dryRun", [])
    if any(value != "All" for value in asked):
        raise bad_request("dryRun must be All", [Cause("must be All", "dryRun")])
    return bool(asked)


async def _manifest(request: web.Request) -> Manifest:
    """The one valid object of the body, which is the one that the path names. Raises RequestError or InvalidError."""
    kind, _ = _kind(request)
    namespace = request.match_info.get("namespace", "")
    found = _documents(await read_body(request), request.content_type)
    if len(found) != 1:
        raise bad_request(f"the body must hold one object, not {len(found)}")
    manifest = decode_object(found[0], namespace or DEFAULT_NAMESPACE)
    name = request.match_info.get("name", manifest.resource.name)
    expected = Key(kind.name, namespace, name)
    if key_of(manifest) != expected:
        raise bad_request(f"the body is {key_of(manifest)}, but the path is for {expected}")
    return require_valid(manifest)


def _manifests(body: bytes, content_type: str) -> list[Manifest]:
    """All objects of the body. Raises RequestError with every problem of every one."""
    manifests: list[Manifest] = []
    causes: list[Cause] = []
    for index, value in enumerate(_documents(body, content_type)):
        try:
            manifest = decode_object(value)
            problems = validate(manifest)
        except InvalidError as error:
            problems = error.problems
        else:
            manifests.append(manifest)
        causes += refused_manifests(problems, f"[{index}]")
    if causes:
        raise invalid_manifests(causes)
    return manifests


def _documents(body: bytes, content_type: str) -> list[Any]:
    """The plain objects of a body: one, a list of them, a `kind: List`, or several YAML documents."""
    if "yaml" in content_type and not body.lstrip().startswith((b"{", b"[")):
        found, problems = read_documents(body.decode(errors="replace"))
        if problems := [*(problem for document in found for problem in document.problems), *problems]:
            raise InvalidError(problems)
        return [item for document in found for item in _unfolded(document.value)]
    return _unfolded(parse_json(body))


def _unfolded(value: Any) -> list[Any]:
    if isinstance(value, dict) and value.get("kind") == "List" and isinstance(value.get("items"), list):
        value = value["items"]
    return value if isinstance(value, list) else [value]
