"""HTTPS to the control plane: kept connections, each for one call at a time; bounded waits; errors translated once."""

from __future__ import annotations

import functools
import http.client
import json
import selectors
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from mesh.client.errors import ApiError, Cause, MeshNotRunning

JSON = "application/json"
APPLY = "application/apply-patch+yaml"


class Transport:
    """Calls one API with one token, which is read anew for each call, as whoever owns the file may replace it."""

    def __init__(self, api: str, token_file: Path, root_cert: Path, timeout_s: float) -> None:
        self.api = api
        self._host, self._port = _endpoint(api)
        self._token_file = token_file
        self._root_cert = root_cert
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPSConnection] = []
        self._closed = False

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = {},
        body: object = None,
        *,
        content_type: str = JSON,
        patience_s: float = 0.0,
    ) -> Any:
        """The JSON that the API answers. Raises ApiError for a refusal, MeshNotRunning when nobody answers.

        `patience_s` is what the server was asked to wait, on top of this transport's own time limit.
        """
        return json.loads(self.text(method, path, query, body, content_type=content_type, patience_s=patience_s))

    def text(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = {},
        body: object = None,
        *,
        content_type: str = JSON,
        patience_s: float = 0.0,
    ) -> str:
        """As `call`, for answers that are not JSON."""
        payload = None if body is None else json.dumps(body).encode()
        with self._connected() as connection:
            connection.sock.settimeout(self._timeout_s + patience_s)
            connection.request(method, target(path, query), payload, self._headers(content_type))
            response = connection.getresponse()
            data = response.read()
        return checked(response.status, data)

    def changed(self, path: str, query: Mapping[str, str], tag: str, *, patience_s: float) -> tuple[str, str] | None:
        """The text and its ETag; None when it is still the one that `tag` names."""
        with self._connected() as connection:
            connection.sock.settimeout(self._timeout_s + patience_s)
            headers = self._headers(JSON) | ({"If-None-Match": tag} if tag else {})
            connection.request("GET", target(path, query), None, headers)
            response = connection.getresponse()
            data = response.read()
        if response.status == http.HTTPStatus.NOT_MODIFIED:
            return None
        return checked(response.status, data), response.headers.get("ETag", "")

    def stream(
        self, path: str, query: Mapping[str, str]
    ) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        """A connection of the caller's own and the answer that has begun on it; reading it waits without limit."""
        connection = self._new_connection()
        try:
            connection.request("GET", target(path, query), headers=self._headers(JSON))
            response = connection.getresponse()
            if response.status >= 400:
                checked(response.status, response.read())
            connection.sock.settimeout(None)
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError | http.client.HTTPException):
                raise self.unreachable(error) from error
            raise
        return connection, response

    def unreachable(self, error: Exception) -> MeshNotRunning:
        """`error` of the network in words that say what to do."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return MeshNotRunning(f"{self.api} is not the control plane of this mesh: {error.verify_message}")
        detail = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        return MeshNotRunning(
            f"the control plane at {self.api} does not answer ({detail}): see `meshdrill status`, or start the mesh "
            f"with `meshdrill up`"
        )

    def close(self) -> None:
        """Close the connections that nobody uses now; the others are closed after their call."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _headers(self, content_type: str) -> dict[str, str]:
        try:
            token = self._token_file.read_text().strip()
        except OSError as error:
            raise MeshNotRunning(f"the token {self._token_file} cannot be read: {error.strerror}") from error
        return {"Authorization": f"Bearer {token}", "Content-Type": content_type, "Accept": JSON}

    @contextmanager
    def _connected(self) -> Iterator[http.client.HTTPSConnection]:
        """An open connection, the caller's alone for one call. What the network says is raised as MeshNotRunning."""
        connection = self._idle_connection() or self._new_connection()
        try:
            if connection.sock is None:
                connection.connect()
            yield connection
        except BaseException as error:
            connection.close()  # An answer may still be on its way, so it cannot be used again.
            if isinstance(error, OSError | http.client.HTTPException):
                raise self.unreachable(error) from error
            raise
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _idle_connection(self) -> http.client.HTTPSConnection | None:
        """One that is kept and still good. The server has nothing to say between calls but goodbye.

        Noticing that here means that no request is lost on a dead connection, so none need be sent twice.
        """
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if connection.sock is not None and not _is_readable(connection.sock):
                return connection
            connection.close()

    def _new_connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._context)

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=str(self._root_cert))
        except OSError as error:
            raise MeshNotRunning(f"the mesh's root certificate {self._root_cert} cannot be read: {error}") from error


def target(path: str, query: Mapping[str, str]) -> str:
    """The request target of `path` with `query`."""
    return f"{path}?{urlencode(query)}" if query else path


def checked(status: int, data: bytes) -> str:
    """The body of a good answer as text. Raises ApiError from the Status object of any other."""
    text = data.decode(errors="replace")
    if status < 400:
        return text
    try:
        answer = json.loads(text)
        causes = (answer.get("details") or {}).get("causes", ())
        found = tuple(Cause(cause.get("field", ""), cause.get("message", "")) for cause in causes)
        raise ApiError(status, answer["reason"], answer["message"], found)
    except (ValueError, KeyError, AttributeError) as error:
        reason = http.client.responses.get(status, "Unknown")
        raise ApiError(status, reason.replace(" ", ""), f"{status} {reason}: {text.strip()[:200]}") from error


def _is_readable(sock: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _endpoint(api: str) -> tuple[str, int]:
    parts = urlsplit(api)
    if parts.scheme != "https" or parts.hostname is None:
        raise MeshNotRunning(f"the API's address must be https://<host>:<port>, not {api!r}")
    return parts.hostname, parts.port or 443
