import pytest

from apps.common.backend import Backend
from apps.common.settings import SettingError, Settings
from apps.details.config import Config as DetailsConfig
from apps.productpage.config import Config as PageConfig
from apps.ratings.config import Config as RatingsConfig
from apps.reviews.config import Config as ReviewsConfig


@pytest.mark.parametrize("value", ["tcp://10.0.0.1:9080", "0", "65536", "-1", "9080 ", "٩٠٨٠", "9e3"])
def test_a_port_is_a_plain_number(value: str) -> None:
    with pytest.raises(SettingError, match=r"RATINGS_SERVICE_PORT=.*whole number from 1 to 65535"):
        Backend.read(Settings({"RATINGS_SERVICE_PORT": value}), "ratings", 1)


def test_backends_follow_bookinfos_variables() -> None:
    def url(**environ: str) -> str:
        return Backend.read(Settings(environ), "ratings", 1).url

    assert url() == "http://ratings:9080"
    assert url(SERVICES_DOMAIN="default.svc") == "http://ratings.default.svc:9080"
    assert url(RATINGS_HOSTNAME="stars", RATINGS_SERVICE_PORT="81", SERVICES_DOMAIN="") == "http://stars:81"


@pytest.mark.parametrize("value", ["nan", "inf", "101", "-0.5", "half"])
def test_a_percentage_is_between_0_and_100(value: str) -> None:
    with pytest.raises(SettingError, match=r"FAULT_PERCENT=.* from 0 to 100"):
        RatingsConfig.read(Settings({"FAULT_PERCENT": value}))


@pytest.mark.parametrize("config", [DetailsConfig, RatingsConfig, ReviewsConfig, PageConfig])
def test_an_unknown_version_is_refused_and_the_known_ones_named(config: type) -> None:
    with pytest.raises(SettingError, match=r"SERVICE_VERSION='v9' is unknown; known are: v1"):
        config.read(Settings({"SERVICE_VERSION": "v9"}))


def test_a_version_of_reviews_stands_for_its_stars() -> None:
    def stars(**environ: str) -> tuple[bool, str, float | None]:
        config = ReviewsConfig.read(Settings(environ))
        return config.ratings is not None, config.star_color, config.ratings and config.ratings.timeout

    assert stars(SERVICE_VERSION="v1") == (False, "black", None)
    assert stars(SERVICE_VERSION="v2") == (True, "black", 10.0)
    assert stars(SERVICE_VERSION="v3") == (True, "red", 2.5)
    assert stars(SERVICE_VERSION="v1", ENABLE_RATINGS="true", STAR_COLOR="red") == (True, "red", 2.5)


def test_the_page_waits_for_reviews_less_than_reviews_may_take() -> None:
    page = PageConfig.read(Settings({}))
    assert (page.details.timeout, page.details.tries) == (3, 1)
    assert (page.reviews.timeout, page.reviews.tries) == (3, 2)


def test_each_process_signs_sessions_with_a_secret_of_its_own_unless_given_one() -> None:
    assert PageConfig.read(Settings({})).secret != PageConfig.read(Settings({})).secret
    assert PageConfig.read(Settings({"SESSION_SECRET": "shared"})).secret == "shared"
