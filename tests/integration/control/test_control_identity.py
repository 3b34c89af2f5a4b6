"""Tokens and certificates over the API: who gets which, and who gets none."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from control_process import API_PORT, ControlProcess, pod
from cryptography import x509

from mesh.ca.folder import open_ca
from mesh.ca.identity import PodIdentity
from mesh.client import ApiError, MeshClient
from mesh.client.keys import make_key_and_csr

REVIEWS = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"


@pytest.fixture
def reviews(client: MeshClient) -> dict[str, Any]:
    return client.apply(pod("reviews-v1-abc", "bookinfo-reviews", "127.200.1.1"))


def token_for(client: MeshClient, manifest: dict[str, Any]) -> str:
    metadata = manifest["metadata"]
    account = manifest["spec"]["serviceAccountName"]
    return client.create_token(account, metadata["namespace"], metadata["name"], metadata["uid"]).token


def bearing(control: ControlProcess, folder: Path, token: str) -> MeshClient:
    """A client with nothing but `token`, as an agent is."""
    (folder / "pod-token").write_text(token)
    return MeshClient(f"https://{control.address}:{API_PORT}", folder / "pod-token", control.root_cert)


def identity_of(pem: str) -> list[str]:
    names = x509.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in names.value]


def refused(client: MeshClient, **asked: Any) -> tuple[int, str]:
    with client, pytest.raises(ApiError) as error:
        client.sign_certificate(asked.pop("csr", make_key_and_csr()[1]), **asked)
    return error.value.status, error.value.reason


def test_a_pod_gets_a_certificate_of_its_own_account(
    control: ControlProcess, client: MeshClient, reviews: dict[str, Any], tmp_path: Path
) -> None:
    issued = client.control_metrics().value("citadel_server_success_cert_issuance_count", requester="pod")
    with bearing(control, tmp_path, token_for(client, reviews)) as agent:
        signed = agent.sign_certificate(make_key_and_csr()[1])
        short = agent.sign_certificate(make_key_and_csr()[1], ttl_s=60)
    assert identity_of(signed.chain[0]) == [REVIEWS]
    assert signed.root == control.root_cert.read_text()
    hour = timedelta(hours=1)
    assert hour - timedelta(minutes=5) < signed.not_after - datetime.now(UTC) <= hour
    assert short.not_after < signed.not_after
    assert client.control_metrics().value("citadel_server_success_cert_issuance_count", requester="pod") == issued + 2


def test_a_token_buys_certificates_and_names_and_nothing_else(
    control: ControlProcess, client: MeshClient, reviews: dict[str, Any], tmp_path: Path
) -> None:
    with bearing(control, tmp_path, token_for(client, reviews)) as agent:
        for call in (
            lambda: agent.list("pods"),
            lambda: agent.apply(reviews),
            agent.proxies,
            agent.control_metrics,
            lambda: token_for(agent, reviews),
        ):
            with pytest.raises(ApiError, match="may ask for certificates and names only") as error:
                call()
            assert error.value.status == 403


@pytest.mark.parametrize(
    "asked",
    [
        {"identity": "spiffe://cluster.local/ns/default/sa/admin"},
        {"identity": REVIEWS},
        {"not_before": datetime.now(UTC), "not_after": datetime.now(UTC) + timedelta(hours=9)},
    ],
)
def test_a_pod_chooses_neither_name_nor_span(
    control: ControlProcess, client: MeshClient, reviews: dict[str, Any], tmp_path: Path, asked: dict[str, Any]
) -> None:
    assert refused(bearing(control, tmp_path, token_for(client, reviews)), **asked) == (403, "Forbidden")


def test_tokens_are_for_pods_as_they_are(client: MeshClient, reviews: dict[str, Any]) -> None:
    uid = reviews["metadata"]["uid"]
    elsewhere = client.apply(pod("reviews-v1-abc", "bookinfo-reviews", "127.200.1.2", namespace="other"))
    for arguments, status in (
        (("bookinfo-ratings", "default", "reviews-v1-abc", uid), 409),  # another account
        (("bookinfo-reviews", "default", "reviews-v1-abc", "stale-uid"), 409),  # a pod of that name that was
        (("bookinfo-reviews", "default", "reviews-v1-abc", elsewhere["metadata"]["uid"]), 409),  # another namespace's
        (("bookinfo-reviews", "default", "nobody", uid), 404),
        (("bookinfo-reviews", "nowhere", "reviews-v1-abc", uid), 404),
    ):
        with pytest.raises(ApiError) as error:
            client.create_token(*arguments)
        assert error.value.status == status, arguments


@pytest.mark.parametrize("ttl_s", [-1, 0, 599, 8 * 86_400, 10**30])
def test_a_tokens_life_is_bounded(client: MeshClient, reviews: dict[str, Any], ttl_s: int) -> None:
    with pytest.raises(ApiError) as error:
        client.create_token("bookinfo-reviews", "default", "reviews-v1-abc", reviews["metadata"]["uid"], ttl_s=ttl_s)
    assert (error.value.status, error.value.causes[0].field) == (422, "spec.expirationSeconds")


def test_the_token_of_a_pod_that_is_gone_buys_nothing(
    control: ControlProcess, client: MeshClient, tmp_path: Path
) -> None:
    token = token_for(client, client.apply(pod("gone-1", "gone", "127.200.1.3")))
    client.delete("pod", "gone-1")
    assert refused(bearing(control, tmp_path, token)) == (403, "Forbidden")
    client.apply(pod("gone-1", "gone", "127.200.1.3"))  # the same name again, but another pod
    assert refused(bearing(control, tmp_path, token)) == (403, "Forbidden")


def test_a_pod_that_changed_its_account_needs_a_new_token(
    control: ControlProcess, client: MeshClient, tmp_path: Path
) -> None:
    token = token_for(client, client.apply(pod("moved-1", "before", "127.200.1.4")))
    client.apply(pod("moved-1", "after", "127.200.1.4"))
    assert refused(bearing(control, tmp_path, token)) == (403, "Forbidden")


def test_an_expired_or_foreign_token_buys_nothing(
    control: ControlProcess, client: MeshClient, reviews: dict[str, Any], tmp_path: Path
) -> None:
    identity = PodIdentity("default", "bookinfo-reviews", "reviews-v1-abc", reviews["metadata"]["uid"])
    hour, yesterday = timedelta(hours=1), datetime.now(UTC) - timedelta(days=1)
    own, foreign = open_ca(control.state / "ca").tokens, open_ca(tmp_path / "ca").tokens
    with bearing(control, tmp_path, own.issue(identity, hour, datetime.now(UTC)).token) as agent:
        agent.sign_certificate(make_key_and_csr()[1])
    expired = own.issue(identity, hour, yesterday).token
    forged = foreign.issue(identity, hour, datetime.now(UTC)).token
    for token in (expired, forged, "garbage", "a.b.c", "x" * 5000):
        assert refused(bearing(control, tmp_path, token)) == (401, "Unauthorized")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"csr": "x" * 9000}, 400),
        ({"csr": "x" * 20_000}, 413),
        ({"csr": "-----BEGIN CERTIFICATE REQUEST-----\nnonsense\n-----END CERTIFICATE REQUEST-----"}, 400),
        ({"csr": 7}, 400),
        ({"csr": "\ud800"}, 400),
        ({}, 400),
        ([], 400),
        ("csr", 400),
        ({"csr": "good", "colour": "blue"}, 400),
        ({"csr": "good", "ttl_seconds": 0}, 422),
        ({"csr": "good", "ttl_seconds": -5}, 422),
        ({"csr": "good", "ttl_seconds": "60"}, 422),
        ({"csr": "good", "ttl_seconds": True}, 422),
        ({"csr": "good", "ttl_seconds": 10**30}, 422),
        ({"csr": "good", "ttl_seconds": 86_401}, 422),
    ],
)
def test_garbage_is_refused_and_does_no_harm(
    control: ControlProcess, client: MeshClient, reviews: dict[str, Any], tmp_path: Path, *, body: Any, status: int
) -> None:
    if isinstance(body, dict) and body.get("csr") == "good":
        body = body | {"csr": make_key_and_csr()[1]}
    with bearing(control, tmp_path, token_for(client, reviews)) as agent:
        with pytest.raises(ApiError) as error:
            agent._transport.call("POST", "/meshdrill/v1/certificates", body=body)
        assert error.value.status == status, error.value
        agent.sign_certificate(make_key_and_csr()[1])


def test_the_admin_makes_bad_certificates_for_drills(client: MeshClient) -> None:
    over = datetime.now(UTC) - timedelta(minutes=1)
    expired = client.issue_credentials(REVIEWS, not_before=over - timedelta(hours=1), not_after=over)
    leaf = x509.load_pem_x509_certificate(expired.chain.encode())
    assert leaf.not_valid_after_utc < datetime.now(UTC)
    foreign = client.issue_credentials("spiffe://evil.example/ns/default/sa/bookinfo-reviews", ttl_s=60)
    assert identity_of(foreign.chain) == ["spiffe://evil.example/ns/default/sa/bookinfo-reviews"]
    assert "BEGIN" not in repr(foreign)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "identity"),
        ({"identity": "reviews"}, "identity"),
        ({"identity": "https://cluster.local/ns/default/sa/x"}, "identity"),
        ({"identity": REVIEWS, "not_before": datetime.now(UTC)}, "not_after"),
        ({"identity": REVIEWS, "not_before": datetime(2026, 1, 1), "not_after": datetime(2026, 1, 2)}, "not_before"),
        (
            {"identity": REVIEWS, "not_before": datetime.now(UTC), "not_after": datetime.now(UTC) + timedelta(days=99)},
            "not_after",
        ),
    ],
)
def test_the_admin_must_say_what_is_wanted(client: MeshClient, asked: dict[str, Any], field: str) -> None:
    with pytest.raises(ApiError) as error:
        client.sign_certificate(make_key_and_csr()[1], **asked)
    assert error.value.status == 422
    assert field in {cause.field for cause in error.value.causes}


def test_no_secret_reaches_the_log(
    control: ControlProcess, client: MeshClient, reviews: dict[str, Any], tmp_path: Path
) -> None:
    token = token_for(client, reviews)
    key, csr = make_key_and_csr()
    with bearing(control, tmp_path, token) as agent:
        agent.sign_certificate(csr)
    assert refused(bearing(control, tmp_path, token[:-4] + "AAAA"), csr=csr) == (401, "Unauthorized")
    log = control.log.read_text()
    secrets = [token, token.rpartition(".")[2], (control.state / "token").read_text().strip(), key.splitlines()[1]]
    assert not [secret for secret in secrets if secret in log]
    assert "PRIVATE KEY" not in log
