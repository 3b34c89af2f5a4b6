"""The API's server: aiohttp over TLS, every refusal a Status object, every request counted."""

from __future__ import annotations

import logging
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from mesh.ca.authority import ServerCredentials
from mesh.control.errors import SetupError
from mesh.control.http.bodies import MAX_BODY_BYTES
from mesh.control.http.errors import translate
from mesh.control.http.status import RequestError, failed_response
from mesh.control.metrics import LabelledCounter

logger = logging.getLogger(__name__)

# aiohttp's own would log whole header lines of malformed requests, tokens in them, with a traceback each. What goes
# wrong inside a handler is logged here, without what was sent.
_silent = logging.getLogger(f"{__name__}.aiohttp")
_silent.setLevel(logging.CRITICAL)

# Watches are ended at once; this is how long other requests may take to finish after SIGTERM.
_SHUTDOWN_S = 2.0
_TLS_PREFIX = ".api-tls-"


class ApiServer:
    """Serves the given routes until stopped."""

    def __init__(
        self, routes: Iterable[web.RouteDef], authenticate: Middleware, *end_streams: Callable[[], None]
    ) -> None:
        self.requests = LabelledCounter("meshdrill_api_requests_total", "Requests to the HTTP API.", ("method", "code"))
        application = web.Application(middlewares=[self._answer_errors, authenticate], client_max_size=MAX_BODY_BYTES)
        application.add_routes(routes)
        application.on_shutdown.extend(map(_calling, end_streams))
        self._runner = web.AppRunner(
            application, access_log=None, logger=_silent, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_S
        )

    async def start(self, address: str, port: int, tls: ssl.SSLContext) -> int:
        """Listen, and return the port. Raises SetupError when the address is taken or not ours."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, address, port, ssl_context=tls).start()
        except OSError as error:
            raise SetupError(
                f"cannot listen on {address}:{port} for the API: {os.strerror(error.errno or 0)}"
            ) from error
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await _answer(request, handler)
        # A method is any word that a stranger sends; each would be a series of its own for ever.
        method = request.method if request.method in hdrs.METH_ALL else "other"
        self.requests.count(method, str(response.status))
        return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestError as error:
        return failed_response(error)
    except web.HTTPException as error:
        # aiohttp's own: no such path, no such method.
        phrase = HTTPStatus(error.status).phrase
        return failed_response(RequestError(error.status, phrase.replace(" ", ""), f"{phrase}: {request.path}"))
    except Exception as error:
        refused = translate(error)
        if refused is None:
            logger.exception("%s %s failed", request.method, request.path)
            refused = RequestError(500, "InternalError", "the control plane failed on this request: see its log")
        return failed_response(refused)


def _calling(function: Callable[[], None]) -> Callable[[web.Application], Awaitable[None]]:
    async def call(application: web.Application) -> None:
        function()

    return call


def tls_context(credentials: ServerCredentials, folder: Path) -> ssl.SSLContext:
    """TLS 1.2 or later. The credentials pass through a private file in `folder`, as OpenSSL reads files only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for leftover in folder.glob(f"{_TLS_PREFIX}*"):  # of a process that was killed between these lines
        leftover.unlink()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=_TLS_PREFIX) as file:
        file.write(credentials.key + credentials.chain)
        file.flush()
        context.load_cert_chain(file.name)
    return context
