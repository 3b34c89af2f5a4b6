import time

import pytest
import requests
from flask.testing import FlaskClient

from apps.common.settings import Settings
from apps.details.app import create_app as create_details
from apps.details.config import Config as DetailsConfig
from apps.ratings.app import create_app
from apps.ratings.config import Config
from apps.ratings.store import MAX_PRODUCTS


def client(version: str = "v1", **environ: str) -> FlaskClient:
    settings = Settings({"SERVICE_VERSION": version, "POD_NAME": "ratings-0", **environ})
    return create_app(Config.read(settings)).test_client()


def test_ratings_and_their_name_tag() -> None:
    response = client().get("/ratings/0")
    assert response.json == {
        "id": 0,
        "ratings": {"Reviewer1": 5, "Reviewer2": 4},
        "podname": "ratings-0",
        "clustername": "null",
        "version": "v1",
    }
    assert (response.headers["x-served-by"], response.headers["x-served-version"]) == ("ratings-0", "v1")


def test_posted_ratings_replace_those_of_that_product() -> None:
    ratings = client()
    assert ratings.post("/ratings/7", json={"Reviewer1": 1}).json["ratings"] == {"Reviewer1": 1}
    assert ratings.get("/ratings/7").json["ratings"] == {"Reviewer1": 1}
    assert ratings.get("/ratings/0").json["ratings"] == {"Reviewer1": 5, "Reviewer2": 4}


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"{", b'{"Reviewer1": 6}', b'{"Reviewer1": true}', b'{"Reviewer1": "5"}']
)
def test_what_are_no_ratings_are_refused(body: bytes) -> None:
    response = client().post("/ratings/0", data=body)
    assert response.status_code == 400
    assert response.json["error"].startswith("please provide valid ratings JSON")


def test_a_product_is_a_number() -> None:
    assert client().get("/ratings/abc").status_code == 400
    assert client().post("/ratings/abc", json={}).status_code == 400


def test_memory_for_ratings_is_bounded() -> None:
    ratings = client()
    for product in range(MAX_PRODUCTS):
        ratings.post(f"/ratings/{product}", json={})
    assert ratings.post(f"/ratings/{MAX_PRODUCTS}", json={}).status_code == 507
    assert ratings.post("/ratings/0", json={"Reviewer1": 2}).status_code == 200
    assert ratings.post("/ratings/0", data=b" " * 70_000).status_code == 413


def test_faulty_ratings_can_fail_exactly_their_first_requests() -> None:
    ratings = client("v-faulty", FAULT_FIRST="3")
    assert [ratings.get("/ratings/0").status_code for _ in range(6)] == [503, 503, 503, 200, 200, 200]


@pytest.mark.parametrize(("percent", "status"), [("0", 200), ("100", 503)])
def test_the_faulty_version_fails_as_often_as_told_and_stays_healthy(percent: str, status: int) -> None:
    ratings = client("v-faulty", FAULT_PERCENT=percent)
    assert {ratings.get("/ratings/0").status_code for _ in range(50)} == {status}
    assert ratings.get("/health").status_code == 200


def test_the_faulty_version_fails_half_of_the_time_by_default() -> None:
    ratings = client("v-faulty")
    assert {ratings.get("/ratings/0").status_code for _ in range(200)} == {200, 503}  # misses one by 2 ** -199


def test_the_delayed_version_is_late_as_often_as_told(services) -> None:
    late = services("ratings", SERVICE_VERSION="v-delayed", FAULT_PERCENT=100, DELAY_SECONDS=600, DRAIN_SECONDS=0)
    prompt = services("ratings", SERVICE_VERSION="v-delayed", FAULT_PERCENT=0, DELAY_SECONDS=600)
    with pytest.raises(requests.ReadTimeout):
        requests.get(late.start().url + "/ratings/0", timeout=0.5)
    assert requests.get(late.url + "/health", timeout=20).status_code == 200
    assert requests.get(prompt.start().url + "/ratings/0", timeout=20).status_code == 200


def until(ratings: FlaskClient, path: str, status: int) -> None:
    deadline = time.monotonic() + 20
    while ratings.get(path).status_code != status:
        assert time.monotonic() < deadline, f"{path} never answered {status}"


def test_the_unavailable_version_starts_up_then_alternates_and_stays_healthy() -> None:
    assert client("v-unavailable").get("/ratings/0").status_code == 200
    ratings = client("v-unavailable", ALTERNATE_SECONDS="0.05")
    for status in (503, 200, 503):
        until(ratings, "/ratings/0", status)
        assert ratings.get("/health").status_code == 200


def test_the_unhealthy_version_alternates_and_its_health_tells() -> None:
    ratings = client("v-unhealthy", ALTERNATE_SECONDS="0.05")
    for status in (500, 200, 500):
        until(ratings, "/health", status)
    until(ratings, "/ratings/0", 503)


def test_details_of_a_book() -> None:
    details = create_details(DetailsConfig.read(Settings({"POD_NAME": "details-0"}))).test_client()
    body = details.get("/details/3").json
    assert (body["id"], body["author"], body["podname"], body["version"]) == (
        3,
        "William Shakespeare",
        "details-0",
        "v1",
    )
    assert details.get("/details/x").status_code == 400
    assert details.get("/health").status_code == 200
    refusal = details.delete("/details/3")
    assert (refusal.status_code, sorted(refusal.headers["allow"].split(", "))) == (405, ["GET", "HEAD", "OPTIONS"])
