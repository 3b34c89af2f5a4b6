"""What is required of a request's tokens, as a tree: providers, and alternatives and conjunctions of them.

A verifier tells its outcome by a callback, which comes at once unless keys have to be fetched: empty if all is good,
else why not.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mesh.proxy.http1.parse import CONTROLS
from mesh.proxy.policy.jwt.extract import Location, merged
from mesh.proxy.policy.jwt.keys import Jwks
from mesh.proxy.policy.jwt.sources import Done as KeysDone
from mesh.proxy.policy.jwt.token import (
    AUDIENCE_NOT_ALLOWED,
    MISSED,
    UNKNOWN_ISSUER,
    UNSOUND_CLAIM,
    VERIFICATION_FAILED,
    JwtError,
    Token,
)

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream
    from mesh.proxy.runtime import Worker

Done = Callable[[str], None]
NAMESPACE = "envoy.filters.http.jwt_authn"
_TWO_TO_64 = 1 << 64
_SHORTEST_EXPONENT = 1e16
_JSON_ESCAPES = {ord(each): f"\\u{ord(each):04x}" for each in "<>\x7f\u2028\u2029"}


class Source(Protocol):
    def keys(self, worker: Worker, done: KeysDone) -> Callable[[], None] | None: ...


@dataclass(frozen=True, slots=True)
class Provider:
    """A compiled JwtProvider. Times in seconds. `struck` are the headers that only we may set."""

    name: str
    issuer: str
    audiences: frozenset[str]
    subject: Callable[[bytes], bool] | None
    source: Source
    locations: tuple[Location, ...]
    struck: frozenset[bytes]
    skew: float = 60.0
    requires_expiration: bool = False
    max_lifetime: float = 0.0
    forwards: bool = False
    payload_header: bytes = b""
    pads_payload: bool = False
    payload_key: str = ""
    header_key: str = ""
    split_claims: tuple[str, ...] = ()
    claim_headers: tuple[tuple[bytes, list[str]], ...] = ()
    clears_route: bool = False

    def check(self, token: Token, audiences: frozenset[str] | None) -> None:
        """What must hold beside the signature. Raises JwtError."""
        now = time.time()
        token.check_time(now, self.skew)
        if self.requires_expiration and "exp" not in token.payload:
            raise JwtError(VERIFICATION_FAILED)
        if self.max_lifetime:
            self._check_lifetime(token, now)
        if self.subject is not None and not self.subject(token.payload.get("sub", "").encode()):
            raise JwtError(VERIFICATION_FAILED)
        wanted = self.audiences if audiences is None else audiences
        if wanted and wanted.isdisjoint(_plain(each) for each in token.audiences):
            raise JwtError(AUDIENCE_NOT_ALLOWED)

    def _check_lifetime(self, token: Token, now: float) -> None:
        if "exp" not in token.payload or token.payload["exp"] - now > self.max_lifetime:
            raise JwtError(VERIFICATION_FAILED)

    def tell(self, token: Token, location: Location, stream: Stream) -> None:
        """Pass on what the good token says. Raises JwtError if a claim would break out of its header."""
        head = stream.head
        for name, path in self.claim_headers:
            text = _claim_text(token.claim(path))
            if not text:
                continue
            if text.translate(None, CONTROLS) != text:
                raise JwtError(UNSOUND_CLAIM + name.decode())
            head.set(name, text)
        if self.payload_header:
            padding = b"=" * (-len(token.payload_text) % 4) if self.pads_payload else b""
            head.add(self.payload_header, token.payload_text + padding)
        if not self.forwards:
            location.strike(head)
        if self.payload_key:
            stream.metadata.setdefault(NAMESPACE, {})[self.payload_key] = self._normalized(token.payload)
        if self.header_key:
            stream.metadata.setdefault(NAMESPACE, {})[self.header_key] = token.header

    def _normalized(self, payload: dict[str, Any]) -> dict[str, Any]:
        split = {name: payload[name].split() for name in self.split_claims if isinstance(payload.get(name), str)}
        return {**payload, **split} if split else payload


def _plain(audience: str) -> str:
    """Scheme and last slash do not count."""
    for scheme in ("http://", "https://"):
        audience = audience.removeprefix(scheme)
    return audience.removesuffix("/")


def plain_audiences(audiences: Iterable[str]) -> frozenset[str]:
    return frozenset(_plain(each) for each in audiences)


def _claim_text(value: Any) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int | float):
        number = float(value)
        is_whole = 0 <= number < _TWO_TO_64 and number.is_integer()
        return b"%d" % int(number) if is_whole else b"%f" % number
    text = json.dumps(_with_doubles(value), separators=(",", ":"), ensure_ascii=False, sort_keys=True).translate(
        _JSON_ESCAPES
    )
    return base64.b64encode(text.encode())


def _with_doubles(value: Any) -> Any:
    """As Envoy keeps JSON: every number is a double, which is written as a whole number if it is one and short."""
    if isinstance(value, dict):
        return {name: _with_doubles(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_doubles(each) for each in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < _SHORTEST_EXPONENT else number


class Verifier(Protocol):
    def verify(self, stream: Stream, attempt: Attempt, done: Done) -> None: ...


class Attempt:
    """The verification of one request: what it waits for, so that it can be given up."""

    __slots__ = ("_leave", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self._leave: list[Callable[[], None]] = []

    def waits(self, leave: Callable[[], None]) -> None:
        self._leave.append(leave)

    def give_up(self) -> None:
        self.is_over = True
        for leave in self._leave:
            leave()


@dataclass(frozen=True, slots=True)
class Tokens:
    """Every token of the providers' locations. `only` is the provider whose tokens are wanted, else the issuer says.

    All tokens have to be good, unless a missing or a failed one is allowed: then the last decides.
    """

    providers: tuple[Provider, ...]
    only: Provider | None = None
    audiences: frozenset[str] | None = None
    allows_missing: bool = False
    allows_failed: bool = False

    def verify(self, stream: Stream, attempt: Attempt, done: Done) -> None:
        locations = merged(location for provider in self.providers for location in provider.locations)
        found = [(each, text) for each in locations if (text := each.find(stream.head)) is not None]
        if found:
            self._next(found, stream, attempt, done)
        else:
            done("" if self.allows_missing or self.allows_failed else MISSED)

    def _next(self, left: list[tuple[Location, bytes]], stream: Stream, attempt: Attempt, done: Done) -> None:
        location, text = left.pop()

        def judged(status: str) -> None:
            if left and (not status or self.allows_missing or self.allows_failed):
                self._next(left, stream, attempt, done)
            else:
                done("" if self.allows_failed else status)

        try:
            token = Token(text)
        except JwtError as error:
            judged(str(error))
            return
        self._judge(token, location, stream, attempt, judged)

    def _judge(self, token: Token, location: Location, stream: Stream, attempt: Attempt, judged: Done) -> None:
        provider = self.only or self._of_issuer(token.issuer)
        if provider is None or not location.allows(token.issuer):
            judged(UNKNOWN_ISSUER)
            return

        def have(jwks: Jwks | None, status: str) -> None:
            if attempt.is_over:
                return
            if jwks is not None:
                try:
                    jwks.check(token)
                    provider.tell(token, location, stream)
                except JwtError as error:
                    status = str(error)
            judged(status)

        try:
            provider.check(token, self.audiences)
        except JwtError as error:
            judged(str(error))
            return
        leave = provider.source.keys(stream.worker, have)
        if leave is not None:
            attempt.waits(leave)

    def _of_issuer(self, issuer: str) -> Provider | None:
        for wanted in (issuer, ""):
            for provider in self.providers:
                if provider.issuer == wanted:
                    return provider
        return None


@dataclass(frozen=True, slots=True)
class AllOf:
    """`requires_all`: the first that fails decides."""

    verifiers: tuple[Verifier, ...]

    def verify(self, stream: Stream, attempt: Attempt, done: Done) -> None:
        self._from(0, stream, attempt, done)

    def _from(self, index: int, stream: Stream, attempt: Attempt, done: Done) -> None:
        def judged(status: str) -> None:
            if status or index + 1 == len(self.verifiers):
                done(status)
            else:
                self._from(index + 1, stream, attempt, done)

        self.verifiers[index].verify(stream, attempt, judged)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """`requires_any`: one that is good decides; of failures, a bad token says more than a foreign one or none.

    Where tokens may be missing, none of the alternatives may have found one.
    """

    verifiers: tuple[Verifier, ...]
    allows_missing: bool = False
    allows_failed: bool = False

    def verify(self, stream: Stream, attempt: Attempt, done: Done) -> None:
        self._from(0, MISSED, stream, attempt, done)

    def _from(self, index: int, worst: str, stream: Stream, attempt: Attempt, done: Done) -> None:
        def judged(status: str) -> None:
            telling = status if status not in (MISSED, UNKNOWN_ISSUER) or worst == MISSED else worst
            if not status or index + 1 == len(self.verifiers):
                is_allowed = self.allows_failed or (self.allows_missing and telling == MISSED)
                done(telling if status and not is_allowed else "")
            else:
                self._from(index + 1, telling, stream, attempt, done)

        self.verifiers[index].verify(stream, attempt, judged)
