"""Workload tokens: what they prove, and every way in which they prove nothing."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest

from mesh.ca.errors import TokenError, ValidityError
from mesh.ca.identity import PodIdentity
from mesh.ca.tokens import MAX_TOKEN_BYTES, MAX_TOKEN_TTL, MIN_TOKEN_TTL, TokenAuthority

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = b"k" * 32
POD = PodIdentity("default", "bookinfo-reviews", "reviews-v1-abc", "uid-1")
HOUR = timedelta(hours=1)


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()


def forge(claims: object, header: object = {"alg": "HS256", "typ": "JWT"}, key: bytes = KEY) -> str:
    signed = f"{segment(header)}.{segment(claims)}"
    signature = hmac.digest(key, signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def claims_of(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    decoded: dict[str, object] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return decoded


def test_proves_the_pod_until_it_expires() -> None:
    authority = TokenAuthority(KEY)
    issued = authority.issue(POD, HOUR, NOW)
    assert issued.expires_at == NOW + HOUR
    assert authority.verify(issued.token, NOW) == POD
    assert authority.verify(issued.token, NOW + HOUR - timedelta(seconds=1)) == POD
    for outside in (NOW + HOUR, NOW - timedelta(seconds=1)):
        with pytest.raises(TokenError, match="expired"):
            authority.verify(issued.token, outside)


def test_carries_the_claims_of_a_kubernetes_service_account_token() -> None:
    claims = claims_of(TokenAuthority(KEY).issue(POD, HOUR, NOW).token)
    assert claims["aud"] == ["meshdrill-ca"]
    assert claims["sub"] == "system:serviceaccount:default:bookinfo-reviews"
    assert claims["kubernetes.io"] == {
        "namespace": "default",
        "serviceaccount": {"name": "bookinfo-reviews"},
        "pod": {"name": "reviews-v1-abc", "uid": "uid-1"},
    }


def test_another_key_proves_nothing() -> None:
    token = TokenAuthority(b"x" * 32).issue(POD, HOUR, NOW).token
    with pytest.raises(TokenError, match="not signed by this mesh"):
        TokenAuthority(KEY).verify(token, NOW)


def test_any_changed_character_breaks_it() -> None:
    authority = TokenAuthority(KEY)
    token = authority.issue(POD, HOUR, NOW).token
    for position, old in enumerate(token):
        changed = token[:position] + ("A" if old != "A" else "B") + token[position + 1 :]
        with pytest.raises(TokenError):
            authority.verify(changed, NOW)


def test_the_algorithm_is_not_the_senders_to_choose() -> None:
    claims = claims_of(TokenAuthority(KEY).issue(POD, HOUR, NOW).token)
    unsigned = f"{segment({'alg': 'none', 'typ': 'JWT'})}.{segment(claims)}."
    for token in (
        unsigned,
        forge(claims, header={"alg": "HS512", "typ": "JWT"}),
        forge(claims, header={"alg": "HS256"}),
    ):
        with pytest.raises(TokenError, match="not signed"):
            TokenAuthority(KEY).verify(token, NOW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aud": ["istio-ca"]}, "not for"),
        ({"aud": "meshdrill-ca"}, "not for"),
        ({"iss": "someone"}, "not for"),
        ({"exp": None}, "no exp"),
        ({"exp": True}, "no exp"),
        ({"nbf": "0"}, "no nbf"),
        ({"kubernetes.io": {"namespace": "default"}}, "bound to no pod"),
        ({"kubernetes.io": None}, "bound to no pod"),
    ],
)
def test_a_signed_token_still_needs_every_claim(change: dict[str, object], message: str) -> None:
    claims = claims_of(TokenAuthority(KEY).issue(POD, HOUR, NOW).token)
    assert TokenAuthority(KEY).verify(forge(claims), NOW) == POD
    with pytest.raises(TokenError, match=message):
        TokenAuthority(KEY).verify(forge(claims | change), NOW)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.é.é", "x" * (MAX_TOKEN_BYTES + 1), forge(["a", "list"])])
def test_garbage_is_refused_without_repeating_it(token: str) -> None:
    with pytest.raises(TokenError) as refused:
        TokenAuthority(KEY).verify(token, NOW)
    assert not token.strip(".") or token not in str(refused.value)


@pytest.mark.parametrize(
    "ttl", [timedelta(0), MIN_TOKEN_TTL - timedelta(seconds=1), MAX_TOKEN_TTL + timedelta(seconds=1)]
)
def test_lifetime_is_bounded(ttl: timedelta) -> None:
    with pytest.raises(ValidityError):
        TokenAuthority(KEY).issue(POD, ttl, NOW)
