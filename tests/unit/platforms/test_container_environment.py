from pathlib import Path

import pytest

from mesh.api.core import ConfigMap, Secret, Service, ServicePort, ServiceSpec
from mesh.api.meta import ObjectMeta
from mesh.api.pod import (
    Container,
    EnvFromRef,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    FieldRef,
    KeyRef,
    Pod,
    PodSpec,
    PodStatus,
)
from mesh.platforms.base import PlatformError, Surroundings
from mesh.platforms.process.environment import (
    container_environment,
    expand,
    loopback_host,
    proxy_variables,
    service_variables,
)

POD = Pod(
    api_version="v1",
    metadata=ObjectMeta(name="web-1", namespace="shop", labels={"app": "web"}, annotations={"a.b/c": "x"}),
    spec=PodSpec(service_account_name="web"),
    status=PodStatus(pod_ip="127.90.1.1", host_ip="127.0.0.1"),
)
SETTINGS = ConfigMap(
    api_version="v1", metadata=ObjectMeta(name="settings", namespace="shop"), data={"color": "red", "size": "2"}
)


LOGIN = Secret(
    api_version="v1",
    metadata=ObjectMeta(name="login", namespace="shop"),
    data={"user": "cm9vdA==", "password": "b2xk", "raw": "/w=="},
    string_data={"password": "s3cret"},
)


def environment(
    *env: EnvVar, env_from: tuple[EnvFromSource, ...] = (), services: tuple[Service, ...] = ()
) -> dict[str, str]:
    container = Container(name="web", env=env, env_from=env_from)
    surroundings = Surroundings(services, {"settings": SETTINGS}, {"login": LOGIN})
    return container_environment(container, POD, surroundings, {"PORT": "4000", "PATH": "/bin"}, loopback_host)


def field(path: str) -> EnvVar:
    return EnvVar(name="X", value_from=EnvVarSource(field_ref=FieldRef(field_path=path)))


def key(name: str, key_: str, *, optional: bool = False) -> EnvVar:
    return EnvVar(name="X", value_from=EnvVarSource(config_map_key_ref=KeyRef(name=name, key=key_, optional=optional)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--port=$(PORT)", "--port=4000"),
        ("$(PORT)$(PORT)", "40004000"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(PORT)", "$(PORT)"),
        ("$$$(PORT)", "$4000"),
        ("$PORT ${PORT} $", "$PORT ${PORT} $"),
        ("$(PORT", "$(PORT"),
        ("", ""),
    ],
)
def test_references_expand_as_kubernetes_expands_them(text: str, expected: str) -> None:
    assert expand(text, {"PORT": "4000"}) == expected


def test_a_value_may_refer_to_what_stands_before_it_and_not_to_what_follows() -> None:
    found = environment(
        EnvVar(name="A", value="$(PORT)/$(B)"), EnvVar(name="B", value="b"), EnvVar(name="C", value="$(A)+$(B)")
    )
    assert (found["A"], found["C"]) == ("4000/$(B)", "4000/$(B)+b")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "web-1"),
        ("metadata.namespace", "shop"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['a.b/c']", "x"),
        ("metadata.labels['absent']", ""),
        ("spec.serviceAccountName", "web"),
        ("status.podIP", "127.90.1.1"),
        ("status.hostIPs", "127.0.0.1"),
    ],
)
def test_the_downward_api_gives_the_pods_fields(path: str, expected: str) -> None:
    assert environment(field(path))["X"] == expected


def test_an_unknown_field_path_is_refused_with_those_there_are() -> None:
    with pytest.raises(PlatformError, match=r'"spec\.color" is not a field of a pod; there are metadata\.name'):
        environment(field("spec.color"))


def secret(name: str, key_: str, *, optional: bool = False) -> EnvVar:
    return EnvVar(name="X", value_from=EnvVarSource(secret_key_ref=KeyRef(name=name, key=key_, optional=optional)))


def test_values_come_from_secrets() -> None:
    assert environment(secret("login", "user"))["X"] == "root"
    assert environment(secret("login", "password"), EnvVar(name="URL", value="//$(X)@db"))["URL"] == "//s3cret@db"
    for name, key_ in (("login", "absent"), ("nowhere", "user")):
        assert "X" not in environment(secret(name, key_, optional=True))
    ref = EnvFromRef(name="nowhere", optional=True)
    found = environment(env_from=(EnvFromSource(secret_ref=ref), EnvFromSource(config_map_ref=ref)))
    assert found == environment()


def test_all_of_a_secret_must_be_text_to_be_variables() -> None:
    with pytest.raises(PlatformError, match=r'container "web": raw of Secret shop/login is not text in UTF-8'):
        environment(env_from=(EnvFromSource(prefix="DB_", secret_ref=EnvFromRef(name="login")),))


def test_no_variable_holds_what_no_process_can_be_given() -> None:
    with pytest.raises(PlatformError, match="variable X has a NUL character"):
        environment(EnvVar(name="X", value="a\0b"))


def test_values_come_from_config_maps() -> None:
    assert environment(key("settings", "color"))["X"] == "red"
    assert "X" not in environment(key("settings", "absent", optional=True))
    everything = environment(env_from=(EnvFromSource(prefix="CFG_", config_map_ref=EnvFromRef(name="settings")),))
    assert (everything["CFG_color"], everything["CFG_size"]) == ("red", "2")


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (key("settings", "absent"), "variable X: couldn't find key absent in ConfigMap shop/settings"),
        (key("nowhere", "a"), 'variable X: configmap "nowhere" not found'),
        (secret("login", "absent"), "variable X: couldn't find key absent in Secret shop/login"),
        (secret("nowhere", "a"), 'variable X: secret "nowhere" not found'),
        (EnvVar(name="X", value_from=EnvVarSource()), "has none of configMapKeyRef, fieldRef and secretKeyRef"),
    ],
)
def test_what_does_not_resolve_is_refused_by_name(variable: EnvVar, message: str) -> None:
    with pytest.raises(PlatformError, match=message):
        environment(variable)


def test_an_explicit_variable_wins_over_every_default() -> None:
    found = environment(EnvVar(name="PORT", value="1"))
    assert found["PORT"] == "1"


def service(name: str, *ports: ServicePort) -> Service:
    return Service(api_version="v1", metadata=ObjectMeta(name=name, namespace="shop"), spec=ServiceSpec(ports=ports))


def test_http_services_are_named_and_tcp_services_are_at_the_sidecar() -> None:
    found = service_variables(
        [
            service("my-api", ServicePort(port=9080, name="http"), ServicePort(port=9091, name="http-admin")),
            service("db", ServicePort(port=3306, name="mysql")),
            service("headless"),
        ],
        lambda each: loopback_host(each, "127.90.1.1"),
    )
    assert found["MY_API_SERVICE_HOST"] == "my-api.shop.svc.cluster.local"
    assert found["MY_API_SERVICE_PORT"] == "9080"
    assert found["MY_API_SERVICE_PORT_HTTP_ADMIN"] == "9091"
    assert found["DB_PORT"] == "tcp://127.90.1.1:3306"
    assert found["DB_PORT_3306_TCP_ADDR"] == "127.90.1.1"
    assert not [name for name in found if name.startswith("HEADLESS")]


def test_proxy_variables_come_in_both_cases_and_spare_loopback_names() -> None:
    found = proxy_variables("127.90.1.1", Path("/state/pods/web-1"))
    assert found["GRPC_XDS_BOOTSTRAP"] == "/state/pods/web-1/grpc-bootstrap.json"
    assert found["http_proxy"] == found["HTTP_PROXY"] == "http://127.90.1.1:15080"
    assert "127.0.0.1" in found["no_proxy"].split(",")
    assert found["no_proxy"] == found["NO_PROXY"]
