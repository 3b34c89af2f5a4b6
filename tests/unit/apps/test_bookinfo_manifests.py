"""The manifests and samples belong together: names, labels, subsets and commands."""

import importlib.util
from base64 import b64decode
from pathlib import Path

import pytest
import yaml

APPS = Path(__file__).parents[3] / "apps"
SAMPLES = sorted((APPS / "istio").glob("*.yaml"))
SERVICES = {"productpage", "details", "reviews", "ratings"}
FILES = [
    APPS / f"{name}.yaml" for name in ("bookinfo", "bookinfo-ratings-variants", "bookinfo-ratings-v2-mysql", "tcp-echo")
]


def load(path: Path) -> list[dict]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def deployments() -> list[dict]:
    return [document for file in FILES for document in load(file) if document["kind"] == "Deployment"]


def named(kind: str) -> dict[str, dict]:
    return {item["metadata"]["name"]: item for file in FILES for item in load(file) if item["kind"] == kind}


def value(item: dict) -> str:
    """Of an environment's entry, as the container gets it, but for fields of the pod."""
    reference = item.get("valueFrom", {}).get("secretKeyRef")
    if reference is None:
        return item.get("value", "")
    return b64decode(named("Secret")[reference["name"]]["data"][reference["key"]]).decode()


def test_every_version_of_bookinfo_is_deployed_once() -> None:
    names = [deployment["metadata"]["name"] for deployment in deployments()]
    variants = [f"ratings-v-{fault}" for fault in ("faulty", "delayed", "unavailable", "unhealthy")]
    assert names == [
        "details-v1",
        "ratings-v1",
        "reviews-v1",
        "reviews-v2",
        "reviews-v3",
        "productpage-v1",
        *variants,
        "mysqldb-v1",
        "ratings-v2",
        "tcp-echo-v1",
        "tcp-echo-v2",
    ]


@pytest.mark.parametrize("deployment", deployments(), ids=lambda deployment: deployment["metadata"]["name"])
def test_a_deployment_fits_its_service_account_and_code(deployment: dict) -> None:
    spec = deployment["spec"]["template"]["spec"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (container,) = spec["containers"]
    environ = {item["name"]: item for item in container["env"]}
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert named("Service")[labels["app"]]["spec"]["selector"] == {"app": labels["app"]}
    assert spec["serviceAccountName"] in named("ServiceAccount")
    assert importlib.util.find_spec(container["command"][2] + ".__main__")
    if labels["app"] in SERVICES:
        assert environ["SERVICE_VERSION"]["value"] == labels["version"]
        assert environ["POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert all(isinstance(item.get("value", ""), str) for item in environ.values())


def test_a_deployments_settings_are_accepted() -> None:
    from apps.common.settings import Settings

    for deployment in deployments():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        settings = Settings({item["name"]: value(item) for item in container["env"]})
        config = importlib.import_module(container["command"][2] + ".config").Config.read(settings)
        if deployment["spec"]["template"]["metadata"]["labels"]["app"] in SERVICES:
            assert config.pod.version == deployment["spec"]["template"]["metadata"]["labels"]["version"]


def test_ratings_know_the_databases_password() -> None:
    containers = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]["containers"][0]["env"] for each in deployments()
    }
    said = [{item["name"]: value(item) for item in containers[name]} for name in ("mysqldb-v1", "ratings-v2")]
    assert said[0]["MYSQL_ROOT_PASSWORD"] == said[1]["MYSQL_DB_PASSWORD"] == "password"


@pytest.mark.parametrize("service", sorted({*SERVICES, "mysqldb", "tcp_echo"}))
def test_an_image_holds_what_the_command_needs(service: str) -> None:
    lines = (APPS / service / "Dockerfile").read_text().splitlines()
    assert "ARG BASE=python:3.12-slim" in lines
    assert "USER 1000:1000" in lines
    assert f'CMD ["python", "-m", "apps.{service}"]' in lines
    copied = [line.split()[1] for line in lines if line.startswith("COPY ") and "--from=" not in line]
    assert all((APPS.parent / path).exists() for path in copied)
    assert {"apps/__init__.py", "apps/common", f"apps/{service}"} <= set(copied)


def destinations(value: object) -> list[dict]:
    if isinstance(value, dict):
        own = [value["destination"]] if "destination" in value else []
        return own + [found for item in value.values() for found in destinations(item)]
    return [found for item in value for found in destinations(item)] if isinstance(value, list) else []


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_routes_to_services_and_subsets_that_exist(path: Path) -> None:
    documents = [*load(APPS / "istio" / "destination-rules.yaml"), *load(path)]
    rules = [document for document in documents if document["kind"] == "DestinationRule"]
    subsets = {(rule["spec"]["host"], subset["name"]) for rule in rules for subset in rule["spec"].get("subsets", [])}
    for document in load(path):
        assert document["apiVersion"] in ("networking.istio.io/v1", "security.istio.io/v1")
        for destination in destinations(document["spec"]):
            assert destination["host"] in {*SERVICES, "tcp-echo"}
            if "subset" in destination:
                assert (destination["host"], destination["subset"]) in subsets


def test_every_subset_selects_a_deployment() -> None:
    labels = [deployment["spec"]["template"]["metadata"]["labels"] for deployment in deployments()]
    rules = [item for path in SAMPLES for item in load(path) if item["kind"] == "DestinationRule"]
    for rule in rules:
        for subset in rule["spec"].get("subsets", []):
            assert {"app": rule["spec"]["host"], **subset["labels"]} in labels
