"""The file for `locust -f`: users, shape and recorder as MESHDRILL_* variables (see `plan`) ask for."""

from __future__ import annotations

from loadtests.lifeline import end_with_launcher
from loadtests.recorder import record
from loadtests.shapes import shape_of
from loadtests.users import PLAN, PageUser, RequestUser

User = RequestUser if PLAN.requests else PageUser
del RequestUser, PageUser  # Locust runs every user class that it finds here
Shape = shape_of(PLAN.stages)
record()
end_with_launcher()
