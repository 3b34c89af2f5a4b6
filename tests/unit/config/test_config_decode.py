"""Documents to typed objects: what is kept, what is filled in, and the limits of API input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mesh.api.meshdrill import Fault
from mesh.api.pod import Deployment
from mesh.api.virtual_service import StringMatch, VirtualService
from mesh.config.analyze.message import Severity
from mesh.config.analyze.run import analyze
from mesh.config.decode import decode_object, decode_text
from mesh.config.documents import MAX_DEPTH
from mesh.config.problems import InvalidError, format_path
from mesh.config.validate import require_valid
from mesh.platforms.node.gateway import ingress_gateway

ROOT = Path(__file__).parents[3]
SAMPLES = sorted((ROOT / "apps").glob("**/*.yaml"))
SERVICES = ROOT / "apps" / "bookinfo.yaml"
DATABASE = ROOT / "apps" / "bookinfo-ratings-v2-mysql.yaml"
ECHO = ROOT / "apps" / "tcp-echo.yaml"


def virtual_service(**http: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "VirtualService",
        "metadata": {"name": "reviews"},
        "spec": {"hosts": ["reviews"], "http": [http]},
    }


def test_both_forms_are_kept() -> None:
    document = virtual_service(
        match=[{"headers": {"end-user": {"exact": "jason"}, "x": {}}}],
        route=[{"destination": {"host": "reviews", "port": {"number": 9080}}}],
        timeout="1m2.5s",
    )
    manifest = decode_object(document, "prod")
    resource = manifest.resource
    assert isinstance(resource, VirtualService)
    assert resource.spec.http[0].match[0].headers == {"end-user": StringMatch(exact="jason"), "x": StringMatch()}
    assert resource.spec.http[0].timeout == timedelta(seconds=62.5)
    assert resource.api_version == "networking.istio.io/v1beta1"
    assert manifest.raw == {**document, "metadata": {"name": "reviews", "namespace": "prod"}}
    assert (str(manifest), resource.namespace) == ("VirtualService prod/reviews", "prod")


def test_null_is_the_same_as_absent() -> None:
    manifest = decode_object(virtual_service(route=None, timeout=None, redirect={"uri": "/x"}))
    assert isinstance(manifest.resource, VirtualService)
    assert manifest.resource.spec.http[0].route == ()


def test_fields_that_only_a_cluster_reads_are_kept_as_written() -> None:
    pod = {
        "containers": [
            {"name": "a", "securityContext": {"runAsUser": 1000}, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
        ],
        "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}]}}],
        "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}},
        "tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 5}],
    }
    document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a", "namespace": "default", "creationTimestamp": None},
        "spec": {
            "strategy": {"rollingUpdate": {"maxSurge": "25%"}},
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": pod},
        },
    }
    manifest = decode_object(document)
    assert manifest.raw == document
    assert isinstance(manifest.resource, Deployment)
    assert manifest.resource.spec.template.spec.volumes == tuple(pod["volumes"])


def test_a_cluster_scoped_object_has_no_namespace() -> None:
    manifest = decode_object({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod"}})
    assert (manifest.resource.namespace, str(manifest)) == ("", "Namespace prod")


def test_a_timestamp_is_aware() -> None:
    spec = {"leaseSeconds": 1.5}
    status = {"expiresAt": "2026-01-31T12:00:00.5Z"}
    meta = {"name": "f"}
    fault = decode_object(
        {"apiVersion": "meshdrill.dev/v1alpha1", "kind": "Fault", "metadata": meta, "spec": spec, "status": status}
    ).resource
    assert isinstance(fault, Fault)
    assert fault.status.expires_at == datetime(2026, 1, 31, 12, 0, 0, 500_000, UTC)


def test_a_list_is_unfolded_with_the_lines_of_its_items() -> None:
    text = "kind: List\napiVersion: v1\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata:\n    name: a\n"
    (manifest,) = decode_text(text, "list.yaml").manifests
    assert manifest.source.location(("metadata", "name")) == "list.yaml:7"


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, {"apiVersion": 1, "kind": "Pod"}, {"kind": "Pod"}])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(InvalidError, match=r"must be an object|is required"):
        decode_object(value)


def test_input_without_text_has_the_same_messages_without_lines() -> None:
    with pytest.raises(InvalidError) as caught:
        decode_object(virtual_service(rout=[]))
    assert str(caught.value) == (
        'VirtualService default/reviews: spec.http[0].rout: unknown field "rout"; did you mean "route"?'
    )


def test_deep_input_is_refused_before_it_is_walked() -> None:
    deep: list[Any] = []
    for _ in range(MAX_DEPTH):
        deep = [deep]
    with pytest.raises(InvalidError, match="nested deeper"):
        decode_object({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": deep})


def test_paths_are_written_as_users_write_them() -> None:
    assert format_path(("spec", "http", 0, "route", 1)) == "spec.http[0].route[1]"
    assert format_path(("metadata", "labels", "app.kubernetes.io/name")) == 'metadata.labels["app.kubernetes.io/name"]'


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_our_own_samples_are_clean(sample: Path) -> None:
    decoded = decode_text(sample.read_text(), sample.name)
    assert decoded.problems == ()
    for manifest in decoded.manifests:
        require_valid(manifest)
    beneath = [decode_object(document) for document in ingress_gateway()]
    beneath += [
        manifest
        for path in (SERVICES, DATABASE, ECHO, ROOT / "apps" / "istio" / "destination-rules.yaml")
        for manifest in decode_text(path.read_text(), path.name).manifests
    ]
    messages = analyze(decoded.manifests, decoded.problems, beneath)
    assert [str(message) for message in messages if message.severity is Severity.ERROR] == []
