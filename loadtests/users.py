"""What a user does, again and again."""

from __future__ import annotations

import os
import random
import time

import gevent
from locust import FastHttpUser, between, constant_pacing

from .plan import LoadPlan, Request

PLAN = LoadPlan.from_environ(os.environ)
# Bookinfo's page waits 6 s for reviews at worst; what takes this long hangs.
TIMEOUT_SECONDS = 30.0
STARTED_SECONDS = 1.0
BROWSE = (
    Request("/productpage", weight=4),
    Request("/api/v1/products"),
    Request("/api/v1/products/0"),
    Request("/api/v1/products/0/reviews", weight=2),
    Request("/api/v1/products/0/ratings"),
)


def send_one(user: PacedUser) -> None:
    """The task of every user: one of its requests, by weight."""
    user.send(random.choices(user.requests, [request.weight for request in user.requests])[0])


class PacedUser(FastHttpUser):  # type: ignore[misc]
    """Sends requests at the plan's pace, signed in at Bookinfo where the plan names a user."""

    abstract = True
    insecure = False
    connection_timeout = network_timeout = TIMEOUT_SECONDS
    wait_time = constant_pacing(PLAN.pace_seconds) if PLAN.pace_seconds else between(0, 0)
    requests: tuple[Request, ...] = ()
    tasks = [send_one]

    def on_start(self) -> None:
        if PLAN.login:
            self.client.post("/login", data={"username": PLAN.login}, allow_redirects=False)

    def send(self, request: Request) -> None:
        """A request that is without an answer when patience at the load's end is over is a failure, not forgotten."""
        started = time.time()
        try:
            self._exchange(request)
        except gevent.GreenletExit:
            self._cut_off(request, started)
            raise

    def _cut_off(self, request: Request, started: float) -> None:
        seconds = time.time() - started
        # Locust also cuts off users that wait, and one may wake and send just then: that tells nothing.
        if seconds >= STARTED_SECONDS:
            self.environment.events.request.fire(
                request_type=request.method,
                name=request.name or request.path,
                start_time=started,
                response_time=seconds * 1000,
                response_length=0,
                response=None,
                exception=TimeoutError("no answer when the load ended"),
                context={},
            )

    def _exchange(self, request: Request) -> None:
        """Anything below 400 is a success, and so is a status that the plan expects."""
        with self.client.request(
            request.method,
            request.path,
            name=request.name or request.path,
            headers=dict(request.headers),
            allow_redirects=False,
            catch_response=True,
        ) as response:
            if response.status_code in PLAN.expect_statuses:
                response.success()


class RequestUser(PacedUser):
    """Sends the requests that the plan lists."""

    abstract = False
    requests = PLAN.requests


class PageUser(PacedUser):
    """Browses Bookinfo."""

    abstract = False
    requests = BROWSE
