import pytest
from flask.testing import FlaskClient

from apps.common.backend import Backend
from apps.common.pod import Pod
from apps.common.propagation import CALLER, TRACE
from apps.reviews.app import NO_RATINGS, create_app
from apps.reviews.config import Config

STARS = {"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}
TAG = {"x-served-by": "ratings-0", "x-served-version": "v1"}


def client(ratings: Backend | None, color: str = "black") -> FlaskClient:
    return create_app(Config(Pod("reviews-0", "null", "v2"), color, ratings)).test_client(use_cookies=False)


def ratings_shown(reviews: FlaskClient) -> list[dict]:
    response = reviews.get("/reviews/0")
    assert response.status_code == 200
    return [review.get("rating") for review in response.json["reviews"]]


def test_without_ratings_there_are_two_reviews_and_no_stars() -> None:
    assert ratings_shown(client(None)) == [None, None]


@pytest.mark.parametrize("color", ["black", "red"])
def test_stars_have_the_versions_color(peers, color: str) -> None:
    ratings = peers(body=STARS, headers=TAG)
    reviews = client(ratings.backend("ratings"), color)
    assert ratings_shown(reviews) == [{"stars": 5, "color": color}, {"stars": 4, "color": color}]
    assert ratings.seen[0][0] == "/ratings/0"


def test_reviews_tell_which_pods_made_them(peers) -> None:
    body = client(peers(body=STARS, headers=TAG).backend("ratings")).get("/reviews/0").json
    assert (body["podname"], body["version"], body["clustername"]) == ("reviews-0", "v2", "null")
    assert (body["ratings_podname"], body["ratings_version"]) == ("ratings-0", "v1")


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, STARS), (302, STARS), (200, b"no JSON"), (200, []), (200, {}), (200, {"ratings": {"Reviewer1": "5"}})],
)
def test_ratings_that_cannot_be_had_are_said_in_words(peers, status: int, body: object) -> None:
    assert ratings_shown(client(peers(status, body).backend("ratings"))) == [{"error": NO_RATINGS}] * 2


def test_ratings_that_do_not_come_in_time_are_said_in_words(peers) -> None:
    ratings = peers(body=STARS)
    ratings.held = True
    assert ratings_shown(client(ratings.backend("ratings", timeout=0.2))) == [{"error": NO_RATINGS}] * 2
    assert ratings.calls(at_least=1) == 1


def test_a_refused_connection_is_said_in_words(peers) -> None:
    ratings = peers(body=STARS)
    ratings.close()
    assert ratings_shown(client(ratings.backend("ratings"))) == [{"error": NO_RATINGS}] * 2


def test_trace_user_and_session_headers_reach_ratings_and_others_do_not(peers) -> None:
    ratings = peers(body=STARS)
    sent = {name: f"value of {name}" for name in (*TRACE, *CALLER, "end-user")}
    client(ratings.backend("ratings")).get("/reviews/0", headers={**sent, "x-secret": "no"})
    received = ratings.seen[0][1]
    assert {name: received[name] for name in sent} == sent
    assert "x-secret" not in received


def test_a_proxy_in_the_environment_is_used_and_netrc_is_not(peers, monkeypatch, tmp_path) -> None:
    proxy = peers(body=STARS)
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    reviews = client(Backend("ratings", "http://ratings:9080", 20))
    reviews.get("/reviews/0", headers={"authorization": "Bearer token"})
    path, headers = proxy.seen[0]
    assert (path, headers["host"], headers["authorization"]) == (
        "http://ratings:9080/ratings/0",
        "ratings:9080",
        "Bearer token",
    )
