"""What goes wrong between a client and its mesh."""

from __future__ import annotations

from dataclasses import dataclass


class MeshError(Exception):
    """Base of all errors of this package."""


class MeshNotRunning(MeshError):
    """There is no mesh to talk to; the message says where it was looked for and what to do."""


class FaultLost(MeshError):
    """A fault's lease ran out, or the fault was lifted by somebody else, while the code under it still ran."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason of a refusal: the field it is about (empty if none) and what is wrong with it."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class ApiError(MeshError):
    """A `Status` object that the API answered instead of what was asked.

    `status` is the HTTP code, `reason` Kubernetes' word for it (NotFound, AlreadyExists, Conflict, Invalid, Expired,
    Timeout, Unauthorized, Forbidden), `causes` every problem that was found.
    """

    def __init__(self, status: int, reason: str, message: str, causes: tuple[Cause, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {cause}" for cause in self.causes)])
