"""As whom a container of the docker platform runs, with what rights and limits."""

from decimal import Decimal
from typing import Any

import pytest

from mesh.api.pod import Container, ResourceRequirements
from mesh.api.security_context import Capabilities, PodSecurityContext, SecurityContext
from mesh.platforms.base import PROXY_CONTAINER, PlatformError
from mesh.platforms.docker.limits import limits_of, quantity
from mesh.platforms.docker.security import Rights, check_proxy, rights_of

APP = 1000
POD = PodSecurityContext()


def rights(user: str = "", pod: PodSecurityContext = POD, **context: Any) -> Rights:
    container = Container(name="app", image="web:1", security_context=SecurityContext(**context))
    return rights_of(container, pod, {"Config": {"User": user}})


def test_an_app_keeps_capabilities_only_where_it_starts_as_root() -> None:
    assert rights("1000:1000").capabilities == rights("nginx").capabilities == ()
    assert rights("", run_as_user=APP).capabilities == ()
    for root in (rights(), rights("0"), rights("0:0"), rights("root"), rights("nginx", run_as_user=0)):
        assert "SETUID" in root.capabilities
        assert not {"NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE"} & set(root.capabilities)


def test_capabilities_are_dropped_and_only_harmless_ones_added() -> None:
    assert rights(capabilities=Capabilities(drop=("ALL",))).capabilities == ()
    assert "CHOWN" not in rights(capabilities=Capabilities(drop=("CAP_CHOWN",))).capabilities
    restricted = Capabilities(drop=("all",), add=("NET_BIND_SERVICE",))
    assert rights("1000", capabilities=restricted).capabilities == ("NET_BIND_SERVICE",)


@pytest.mark.parametrize(
    ("user", "pod", "context", "told"),
    [
        ("1000:5", POD, {}, None),
        ("1337", POD, {}, None),
        ("", PodSecurityContext(run_as_user=1337), {"run_as_user": 7}, "7"),
        ("nginx", POD, {"run_as_user": 7}, "7"),
        ("nginx", PodSecurityContext(run_as_user=7, run_as_group=8), {}, "7:8"),
        ("nginx", PodSecurityContext(run_as_user=7, run_as_group=8), {"run_as_user": 0}, "0:8"),
        ("nginx", POD, {"run_as_group": 8}, "nginx:8"),
        ("", POD, {"run_as_group": 8}, "0:8"),
    ],
)
def test_the_container_says_who_it_is_then_the_pod_then_the_image(
    user: str, pod: PodSecurityContext, context: dict[str, Any], told: str | None
) -> None:
    assert rights(user, pod, **context).user == told


def test_groups_and_a_file_system_that_is_not_written() -> None:
    found = rights("1000", PodSecurityContext(supplemental_groups=(3, 4), fs_group=5), read_only_root_filesystem=True)
    assert (found.groups, found.read_only) == ((3, 4, 5), True)


@pytest.mark.parametrize(
    ("user", "pod", "context", "message"),
    [
        ("", POD, {"run_as_user": 1337}, 'container "app": runAsUser 1337 passes the sidecar by in Istio'),
        ("", PodSecurityContext(run_as_user=1337), {}, 'container "app": runAsUser 1337 passes the sidecar by'),
        ("", POD, {"run_as_non_root": True}, "has runAsNonRoot and would run as root"),
        ("nginx", PodSecurityContext(run_as_non_root=True), {}, r"non-numeric user \(nginx\)"),
        ("", POD, {"privileged": True}, "privileged would lead around the sidecar"),
        ("", POD, {"capabilities": Capabilities(add=("NET_ADMIN", "CHOWN"))}, "capability NET_ADMIN would lead"),
    ],
)
def test_what_no_app_is_given_is_refused(
    user: str, pod: PodSecurityContext, context: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlatformError, match=message):
        rights(user, pod, **context)


def test_the_proxy_is_istios_user() -> None:
    check_proxy(Container(name=PROXY_CONTAINER, security_context=SecurityContext(run_as_user=1337)))
    with pytest.raises(PlatformError, match="runs as uid 1337, and not as 0"):
        check_proxy(Container(name=PROXY_CONTAINER, security_context=SecurityContext(run_as_user=0)))


def test_rights_that_somebody_need_not_be_root_for() -> None:
    assert rights("", PodSecurityContext(run_as_non_root=True), run_as_non_root=False).user is None
    assert rights("1000", run_as_non_root=True).user is None


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("500m", "0.5"),
        ("64Mi", 64 * 1024**2),
        ("129M", 129 * 10**6),
        ("1e3", 1000),
        ("1.5Gi", 3 * 1024**3 // 2),
        (".5", "0.5"),
        (2, 2),
        ("1k", 1000),
        ("2E", 2 * 10**18),
    ],
)
def test_quantities(written: Any, value: Any) -> None:
    assert quantity(written) == Decimal(value)


@pytest.mark.parametrize("written", ["", "m", "1 Gi", "1gi", "0x1", "1.2.3", "."])
def test_what_is_no_quantity(written: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        quantity(written)


def limited(**limits: Any) -> dict[str, int]:
    return limits_of(Container(name="app", resources=ResourceRequirements(limits=limits)))


def test_limits_are_the_engines() -> None:
    assert limited() == {}
    assert limited(memory="64Mi") == {"mem_limit": 2**26, "memswap_limit": 2**26}
    assert limited(cpu="250m") == {"cpu_period": 100_000, "cpu_quota": 25_000}
    assert limited(cpu="1m")["cpu_quota"] == 1_000
    with pytest.raises(PlatformError, match=r'container "app": resources\.limits\.memory: "64 Mi" is no quantity'):
        limited(memory="64 Mi")
    with pytest.raises(PlatformError, match=r"resources\.limits\.cpu must be more than 0"):
        limited(cpu=0)
