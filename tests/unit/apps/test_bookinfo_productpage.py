from dataclasses import dataclass
from http.cookies import SimpleCookie

import pytest
from flask.testing import FlaskClient

from apps.common.pod import Pod
from apps.productpage.app import create_app
from apps.productpage.config import Config

DETAILS = {"id": 0, "author": "William Shakespeare", "pages": 200, "podname": "details-0", "version": "v1"}
REVIEWS = {
    "id": "0",
    "podname": "reviews-v3-0",
    "version": "v3",
    "ratings_podname": "ratings-0",
    "ratings_version": "v1",
    "ratings_milliseconds": 2.5,
    "reviews": [
        {"reviewer": "Reviewer1", "text": "Good.", "rating": {"stars": 5, "color": "red"}},
        {"reviewer": "Reviewer2", "text": "Short.", "rating": {"stars": 4, "color": "red"}},
    ],
}
NO_DETAILS = "Sorry, product details are currently unavailable for this book."
NO_REVIEWS = "Sorry, product reviews are currently unavailable for this book."


@dataclass
class Bookinfo:
    page: FlaskClient
    details: object
    reviews: object
    ratings: object


@pytest.fixture
def start(peers):
    """The page in front of three peers; `timeout` is that of details and reviews."""

    def make(timeout: float = 20, flood: int = 0) -> Bookinfo:
        details = peers(body=DETAILS, headers={"x-served-by": "details-0"})
        reviews = peers(body=REVIEWS, headers={"x-served-by": "reviews-v3-0", "x-served-version": "v3"})
        ratings = peers(body={"ratings": {}}, headers={"x-served-by": "ratings-0", "x-served-version": "v1"})
        config = Config(
            Pod("page-0", "null", "v1"),
            details.backend("details", timeout),
            reviews.backend("reviews", timeout, tries=2),
            ratings.backend("ratings"),
            flood,
            "secret",
        )
        return Bookinfo(create_app(config).test_client(), details, reviews, ratings)

    return make


def text(client: FlaskClient, path: str = "/productpage") -> str:
    response = client.get(path)
    assert response.status_code == 200
    return response.text


def test_the_page_shows_the_book_its_stars_and_who_served_it(start) -> None:
    html = text(start().page)
    assert "William Shakespeare" in html
    assert html.count('data-color="red"') == 2
    assert 'data-stars="5"' in html
    assert 'data-stars="4"' in html
    assert '<section id="reviews" data-version="v3" data-pod="reviews-v3-0">' in html
    for pod in ("page-0", "details-0", "reviews-v3-0", "ratings-0"):
        assert f"<code>{pod}</code>" in html
    assert "Sorry" not in html


def test_the_page_needs_nothing_from_the_network(start) -> None:
    html = text(start().page)
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
    assert "url(" not in html.replace("url(#cloth)", "")
    assert "<script" not in html


def test_reviews_without_ratings_have_no_stars(start) -> None:
    bookinfo = start()
    bookinfo.reviews.body = {"version": "v1", "reviews": [{"reviewer": "Reviewer1", "text": "Good."}]}
    html = text(bookinfo.page)
    assert "data-stars" not in html
    assert "not called" in html


@pytest.mark.parametrize(("failing", "words"), [("details", NO_DETAILS), ("reviews", NO_REVIEWS)])
@pytest.mark.parametrize("status", [500, 503, 504, 404])
def test_a_failing_backend_leaves_the_page_standing_with_words(start, failing: str, words: str, status: int) -> None:
    bookinfo = start()
    getattr(bookinfo, failing).status = status
    html = text(bookinfo.page)
    assert words in html
    assert html.count("Sorry, ") == 1
    assert f"status {status}" in html


def test_failing_ratings_are_said_beside_each_review(start) -> None:
    bookinfo = start()
    words = "Ratings service is currently unavailable"
    reviews = [{"reviewer": "Reviewer1", "text": "Good.", "rating": {"error": words}}]
    bookinfo.reviews.body = {**REVIEWS, "reviews": reviews}
    assert words in text(bookinfo.page)


def test_reviews_that_hang_are_tried_twice_and_details_once(start) -> None:
    bookinfo = start(timeout=0.2)
    bookinfo.details.held = bookinfo.reviews.held = True
    html = text(bookinfo.page)
    assert NO_DETAILS in html
    assert NO_REVIEWS in html
    assert (bookinfo.details.calls(at_least=1), bookinfo.reviews.calls(at_least=2)) == (1, 2)


def test_an_answer_of_any_status_is_not_tried_again(start) -> None:
    bookinfo = start()
    bookinfo.reviews.status = 503
    text(bookinfo.page)
    assert len(bookinfo.reviews.seen) == 1


@pytest.mark.parametrize(("path", "name"), [("", "details"), ("/reviews", "reviews"), ("/ratings", "ratings")])
def test_the_api_passes_on_body_status_and_name_tag(start, path: str, name: str) -> None:
    bookinfo = start()
    peer = getattr(bookinfo, name)
    response = bookinfo.page.get(f"/api/v1/products/0{path}")
    assert (response.status_code, response.json) == (200, peer.body)
    assert response.headers["x-served-by"] == peer.headers["x-served-by"]
    assert peer.seen[0][0] == f"/{name}/0"
    peer.status = 503
    response = bookinfo.page.get(f"/api/v1/products/0{path}")
    words = f"Sorry, product {name} are currently unavailable for this book."
    assert (response.status_code, response.json["error"]) == (503, words)
    assert response.headers["x-served-by"] == peer.headers["x-served-by"]


def test_the_api_answers_500_without_an_answer_and_502_without_json(start) -> None:
    bookinfo = start(timeout=0.2)
    bookinfo.details.held = True
    response = bookinfo.page.get("/api/v1/products/0")
    assert (response.status_code, response.json["reason"], response.headers["x-served-by"]) == (
        500,
        "timeout",
        "page-0",
    )
    bookinfo = start()
    bookinfo.reviews.body = b"<html>"
    assert bookinfo.page.get("/api/v1/products/0/reviews").status_code == 502


def test_the_list_of_products(start) -> None:
    (product,) = start().page.get("/api/v1/products").json
    assert (product["id"], product["title"]) == (0, "The Comedy of Errors")


def test_end_user_is_who_signed_in_and_never_what_a_client_claims(start) -> None:
    bookinfo = start()
    claim = {"end-user": "mallory", "x-request-id": "r-1", "traceparent": "00-1-2-01"}
    bookinfo.page.get("/productpage", headers=claim)
    assert bookinfo.page.post("/login", data={"username": "jason", "passwd": "any"}).location == "/productpage"
    bookinfo.page.get("/productpage", headers=claim)
    assert 'id="user">jason<' in text(bookinfo.page)
    assert bookinfo.page.get("/logout").location == "/productpage"
    bookinfo.page.get("/productpage", headers=claim)
    for peer in (bookinfo.details, bookinfo.reviews):
        assert [headers["end-user"] for _, headers in peer.seen] == [None, "jason", "jason", None]
        assert peer.seen[0][1]["x-request-id"] == "r-1"
        assert peer.seen[0][1]["traceparent"] == "00-1-2-01"


def test_the_session_cookie_cannot_be_forged(start) -> None:
    bookinfo = start()
    cookie = SimpleCookie(bookinfo.page.post("/login", data={"username": "jason"}).headers["set-cookie"])["session"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    forged = ("A" if cookie.value[0] != "A" else "B") + cookie.value[1:]
    bookinfo.page.delete_cookie("session")
    bookinfo.page.get("/productpage", headers={"cookie": f"session={forged}"})
    assert bookinfo.details.seen[0][1]["end-user"] is None


@pytest.mark.parametrize("name", ["", "  ", "a b", "jäson", "a\r\nx: y", "x" * 65, "<b>"])
def test_a_name_that_is_no_header_value_cannot_sign_in(start, name: str) -> None:
    response = start().page.post("/login", data={"username": name})
    assert response.status_code == 400
    assert "set-cookie" not in response.headers


def test_everything_that_backends_say_is_escaped(start) -> None:
    bookinfo = start()
    evil = "<img src=x onerror=alert(1)>\"'"
    rating = {"error": evil}
    bookinfo.details.body = {"author": evil, "pages": evil, "podname": evil, "version": evil}
    reviews = [
        {"reviewer": evil, "text": evil, "rating": rating},
        {"reviewer": 1, "rating": {"stars": 9, "color": evil}},
    ]
    bookinfo.reviews.body = {**REVIEWS, "podname": evil, "version": evil, "ratings_podname": evil, "reviews": reviews}
    html = text(bookinfo.page)
    assert "<img" not in html
    assert evil not in html
    assert 'data-stars="5"' in html


@pytest.mark.parametrize("body", [{"reviews": "none"}, {"reviews": [1, None]}, {"reviews": [{"rating": "five"}]}, {}])
def test_reviews_of_an_unknown_form_do_not_break_the_page(start, body: object) -> None:
    bookinfo = start()
    bookinfo.reviews.body = body
    assert "data-stars" not in text(bookinfo.page)


def test_a_flood_calls_reviews_as_often_as_told_besides(start) -> None:
    bookinfo = start(flood=5)
    text(bookinfo.page)
    assert (len(bookinfo.reviews.seen), len(bookinfo.details.seen)) == (6, 1)


def test_metrics_count_calls_by_backend_and_result(start) -> None:
    bookinfo = start()
    text(bookinfo.page)
    bookinfo.reviews.status = 503
    text(bookinfo.page)
    response = bookinfo.page.get("/metrics")
    assert response.content_type.startswith("text/plain; version=0.0.4")
    for line in (
        'request_result_total{destination_app="details",response_code="200"} 2',
        'request_result_total{destination_app="reviews",response_code="200"} 1',
        'request_result_total{destination_app="reviews",response_code="503"} 1',
    ):
        assert line in response.text.splitlines()


def test_the_front_door_leads_to_the_page(start) -> None:
    page = start().page
    assert page.get("/").location == "/productpage"
    assert page.get("/health").status_code == 200
    assert page.get("/nowhere").status_code == 404
