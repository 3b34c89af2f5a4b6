"""Who is asking: the admin of the mesh, or a pod that wants its certificate or names. Nobody else is answered."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mesh.ca.errors import TokenError
from mesh.ca.identity import PodIdentity
from mesh.ca.tokens import TokenAuthority
from mesh.control.http.status import RequestError, forbidden

CERTIFICATES = "/meshdrill/v1/certificates"
NAMES = "/meshdrill/v1/names"
FOR_PODS = frozenset({CERTIFICATES, NAMES})
OPEN_PATHS = frozenset({"/livez", "/readyz"})
_PRINCIPAL = "meshdrill.principal"


class Admin:
    """Whoever holds the admin token: may do everything."""


Principal = Admin | PodIdentity


def authentication(admin_token: str, tokens: TokenAuthority) -> Middleware:
    """Lets a request through with its principal on it, or refuses it: 401 for no proof, 403 for too little."""
    expected = admin_token.encode()

    def identify(request: web.Request) -> Principal:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise RequestError(401, "Unauthorized", "this call needs the header `Authorization: Bearer <token>`")
        # As bytes: compare_digest takes no text beyond ASCII, which a header may well hold.
        if hmac.compare_digest(token.encode(errors="surrogateescape"), expected):
            return Admin()
        try:
            return tokens.verify(token, datetime.now(UTC))
        except TokenError as error:
            raise RequestError(401, "Unauthorized", str(error)) from error

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN_PATHS:
            return await handler(request)
        found = identify(request)
        if not isinstance(found, Admin) and request.path not in FOR_PODS:
            raise forbidden(f"pod {found.namespace}/{found.pod_name} may ask for certificates and names only")
        request[_PRINCIPAL] = found
        return await handler(request)

    return authenticate


def principal(request: web.Request) -> Principal:
    """Who made a request that has passed `authentication`."""
    found: Principal = request[_PRINCIPAL]
    return found
