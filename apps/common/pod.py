"""Which pod and version answers: the name tag that each response carries."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from flask import Flask, Response

from .settings import Settings

SERVED_BY = "x-served-by"
SERVED_VERSION = "x-served-version"


@dataclass(frozen=True)
class Pod:
    """The pod that a service runs in: its name, its cluster ("null" where unknown, as in Bookinfo), its version."""

    name: str
    cluster: str
    version: str

    @classmethod
    def read(cls, settings: Settings, known_versions: tuple[str, ...]) -> Pod:
        """From POD_NAME (default: the host's name), CLUSTER_NAME and SERVICE_VERSION (default: the first known)."""
        return cls(
            name=settings.text("POD_NAME", socket.gethostname()),
            cluster=settings.text("CLUSTER_NAME", "null"),
            version=settings.choice("SERVICE_VERSION", known_versions[0], known_versions),
        )

    def tag(self) -> dict[str, str]:
        """The fields of a JSON body that tell who made it."""
        return {"podname": self.name, "clustername": self.cluster, "version": self.version}


def stamp(app: Flask, pod: Pod) -> None:
    """Put the pod's name and version on every response that does not carry a backend's already."""

    def tag(response: Response) -> Response:
        response.headers.setdefault(SERVED_BY, pod.name)
        response.headers.setdefault(SERVED_VERSION, pod.version)
        return response

    app.after_request(tag)
