"""Tokens for pods (Kubernetes' TokenRequest) and the certificates that they buy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from aiohttp import web

from mesh.api.pod import Pod
from mesh.ca.authority import DEFAULT_TTL, SignedCertificate, Validity
from mesh.ca.csr import MAX_CSR_BYTES
from mesh.ca.errors import CsrError, ValidityError
from mesh.ca.folder import CertificateAuthority
from mesh.ca.identity import PodIdentity
from mesh.ca.tokens import AUDIENCE, DEFAULT_TOKEN_TTL
from mesh.config.keys import Key, NotFoundError
from mesh.config.store import Store
from mesh.control.http.auth import CERTIFICATES, principal
from mesh.control.http.bodies import read_json_object
from mesh.control.http.status import Cause, bad_request, conflict, forbidden, invalid, json_response, not_found
from mesh.control.metrics import LabelledCounter

_MAX_BODY_BYTES = 2 * MAX_CSR_BYTES
_MOST_SECONDS = 10**9  # beyond any lifetime that is granted, and within what timedelta can hold
_ADMIN_FIELDS = frozenset({"identity", "not_before", "not_after"})
_FIELDS = frozenset({"csr", "ttl_seconds"}) | _ADMIN_FIELDS


class IdentityApi:
    """Says who a pod is, once it has shown that it is that pod."""

    def __init__(self, ca: CertificateAuthority, store: Store) -> None:
        self._ca = ca
        self._store = store
        self.issued = LabelledCounter(
            "citadel_server_success_cert_issuance_count", "Certificates that the CA has signed.", ("requester",)
        )
        self.asked = LabelledCounter("citadel_server_csr_count", "Certificate requests, refused ones among them.")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", self.create_token),
            web.post(CERTIFICATES, self.create_certificate),
        ]

    async def create_token(self, request: web.Request) -> web.Response:
        body = await read_json_object(request, _MAX_BODY_BYTES)
        pod_name, pod_uid, ttl = _token_request(body)
        identity = PodIdentity(request.match_info["namespace"], request.match_info["name"], pod_name, pod_uid)
        pod = self._pod(identity)
        if pod is None:
            raise not_found(f"pods {identity.namespace}/{pod_name} not found")
        if _identity(pod) != identity:
            raise conflict(f"pod {identity.namespace}/{pod_name} has another uid or another service account")
        try:
            issued = self._ca.tokens.issue(identity, ttl, datetime.now(UTC))
        except ValidityError as error:
            raise invalid(str(error), [Cause(str(error), "spec.expirationSeconds")]) from error
        status = {"token": issued.token, "expirationTimestamp": issued.expires_at.isoformat()}
        return json_response({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "status": status}, 201)

    async def create_certificate(self, request: web.Request) -> web.Response:
        self.asked.count()
        body = await read_json_object(request, _MAX_BODY_BYTES)
        requester = principal(request)
        if isinstance(requester, PodIdentity):
            signed = self._sign_for_pod(body, requester)
            self.issued.count("pod")
        else:
            signed = self._sign_for_admin(body)
            self.issued.count("admin")
        answer = {"chain": signed.chain, "root": signed.root, "not_after": signed.not_after.isoformat()}
        return json_response(answer, 201)

    def _sign_for_pod(self, body: Mapping[str, object], identity: PodIdentity) -> SignedCertificate:
        if asked := sorted(_ADMIN_FIELDS & body.keys()):
            raise forbidden(f"only the admin may choose {', '.join(asked)}")
        pod = self._pod(identity)
        if pod is None or _identity(pod) != identity:
            raise forbidden(f"pod {identity.namespace}/{identity.pod_name} of this token is no more")
        return self._sign(body, identity.workload.uri, _validity(body))

    def _pod(self, identity: PodIdentity) -> Pod | None:
        """The pod of that name, which may be another than the one meant."""
        try:
            found = self._store.get(Key(Pod.KIND, identity.namespace, identity.pod_name)).resource
        except NotFoundError:
            return None
        assert isinstance(found, Pod)
        return found

    def _sign_for_admin(self, body: Mapping[str, object]) -> SignedCertificate:
        identity = body.get("identity")
        if not isinstance(identity, str) or not identity.startswith("spiffe://") or not identity.isascii():
            raise invalid("identity must be a SPIFFE URI", [Cause("must be a URI like spiffe://...", "identity")])
        return self._sign(body, identity, _validity(body))

    def _sign(self, body: Mapping[str, object], uri: str, validity: Validity) -> SignedCertificate:
        csr = body.get("csr")
        if unknown := sorted(body.keys() - _FIELDS):
            raise bad_request("unknown fields", [Cause("unknown field", name) for name in unknown])
        if not isinstance(csr, str) or not csr.isascii():
            raise bad_request("csr is missing", [Cause("must be a PKCS #10 request in PEM form", "csr")])
        try:
            return self._ca.certificates.sign_workload(csr.encode(), uri, validity)
        except CsrError as error:
            raise bad_request(str(error), [Cause(str(error), "csr")]) from error


def _identity(pod: Pod) -> PodIdentity:
    return PodIdentity(pod.namespace, pod.spec.service_account_name, pod.name, pod.metadata.uid)


def _token_request(body: Mapping[str, object]) -> tuple[str, str, timedelta]:
    """Name and uid of the pod to bind to, and the lifetime. Raises RequestError."""
    spec = body.get("spec")
    asked: dict[str, object] = spec if isinstance(spec, dict) else {}
    match asked.get("boundObjectRef"):
        case {"kind": "Pod", "name": str(name), "uid": str(uid)}:
            pass
        case _:
            problem = Cause("must have kind Pod, name and uid", "spec.boundObjectRef")
            raise bad_request("a token is bound to a Pod", [problem])
    if asked.get("audiences", [AUDIENCE]) != [AUDIENCE]:
        raise invalid(f"tokens are for {AUDIENCE} only", [Cause(f"must be [{AUDIENCE!r}]", "spec.audiences")])
    return name, uid, _seconds(asked.get("expirationSeconds"), "spec.expirationSeconds", DEFAULT_TOKEN_TTL)


def _validity(body: Mapping[str, object]) -> Validity:
    is_span = "not_before" in body or "not_after" in body
    try:
        if is_span:
            return Validity.between(_instant(body, "not_before"), _instant(body, "not_after"))
        return Validity.starting(datetime.now(UTC), _seconds(body.get("ttl_seconds"), "ttl_seconds", DEFAULT_TTL))
    except ValidityError as error:
        raise invalid(str(error), [Cause(str(error), "not_after" if is_span else "ttl_seconds")]) from error


def _instant(body: Mapping[str, object], name: str) -> datetime:
    value = body.get(name)
    problem = [Cause("must be an RFC 3339 time with its offset; both ends are needed", name)]
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError as error:
        raise invalid(f"{name} is not a time", problem) from error
    if instant is None or instant.tzinfo is None:
        raise invalid(f"{name} is not a time", problem)
    return instant


def _seconds(value: object, name: str, default: timedelta) -> timedelta:
    if value is None:
        return default
    if type(value) is not int or not 0 < value <= _MOST_SECONDS:
        raise invalid(f"{name} is not a lifetime", [Cause("must be a whole number of seconds above 0", name)])
    return timedelta(seconds=value)
