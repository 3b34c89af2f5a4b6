import pytest

from mesh.cli.connect import find_pod
from mesh.cli.errors import Failure
from mesh.client import Pod


def pod(name: str, namespace: str = "default", *, ready: bool = True) -> Pod:
    workload = name.rsplit("-", 2)[0]
    return Pod.from_manifest(
        {
            "metadata": {"name": name, "namespace": namespace, "ownerReferences": [{"name": workload}]},
            "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
        }
    )


PODS = [
    pod("reviews-v1-aa-x1"),
    pod("reviews-v2-bb-y1", ready=False),
    pod("reviews-v2-bb-y2"),
    pod("reviews-v1-aa-x1", "shop"),
]


@pytest.mark.parametrize(
    ("word", "name", "namespace"),
    [
        ("reviews-v1-aa-x1.shop", "reviews-v1-aa-x1", "shop"),
        ("reviews-v2-bb-y1", "reviews-v2-bb-y1", "default"),
        ("pod/reviews-v2-bb-y1", "reviews-v2-bb-y1", "default"),
        ("reviews-v2-bb-y2", "reviews-v2-bb-y2", "default"),
    ],
)
def test_a_pod_is_found_by_name_or_a_unique_beginning(word: str, name: str, namespace: str) -> None:
    found = find_pod(PODS, word)
    assert (found.name, found.namespace) == (name, namespace)


def test_a_deployments_pod_is_a_ready_one() -> None:
    assert find_pod(PODS, "deploy/reviews-v2").name == "reviews-v2-bb-y2"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("reviews", "may be any of"),
        ("ratings", 'no pod is called "ratings"; there are reviews-v1-aa-x1'),
        ("deploy/ratings", 'no pod belongs to a deployment "ratings"; there are reviews-v1, reviews-v2'),
    ],
)
def test_who_is_not_found_is_told_who_is_there(word: str, message: str) -> None:
    with pytest.raises(Failure, match=message):
        find_pod(PODS, word)
