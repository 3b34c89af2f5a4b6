import pytest

from loadtests.plan import LoadPlan, PlanError, Request, Stage


def test_a_plan_survives_the_environment() -> None:
    plan = LoadPlan(
        requests=(Request("/a", headers={"x": "ä"}, weight=3), Request("/b", "POST", name="b")),
        pace_seconds=0.25,
        expect_statuses=frozenset({503, 500}),
        login="jason",
        stages=(Stage(5, 1.5, ramp=True), Stage(5, 10)),
    )
    assert LoadPlan.from_environ(plan.to_environ()) == plan
    assert LoadPlan.from_environ(LoadPlan().to_environ()) == LoadPlan()
    assert LoadPlan.from_environ({}) == LoadPlan()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("MESHDRILL_EXPECT_STATUSES", "500,x", "'x' is not an HTTP status"),
        ("MESHDRILL_EXPECT_STATUSES", "99", "'99' is not an HTTP status"),
        ("MESHDRILL_PACE_SECONDS", "fast", "is not a number of seconds"),
        ("MESHDRILL_PACE_SECONDS", "-1", "must not be negative"),
        ("MESHDRILL_PACE_SECONDS", "nan", "must not be negative"),
        ("MESHDRILL_REQUESTS", "{", "is not JSON"),
        ("MESHDRILL_REQUESTS", "{}", "must be a JSON list"),
        ("MESHDRILL_REQUESTS", '[{"path": "a"}]', "must start with /"),
        ("MESHDRILL_REQUESTS", '[{"path": "/", "weight": 0}]', "must be at least 1"),
        ("MESHDRILL_REQUESTS", '[{"url": "/"}]', "url"),
        ("MESHDRILL_SHAPE", '[{"users": 1, "seconds": 0}]', "seconds > 0"),
    ],
)
def test_a_plan_that_cannot_run_names_its_variable(variable: str, value: str, message: str) -> None:
    with pytest.raises(PlanError, match=f"{variable}.*{message}"):
        LoadPlan.from_environ({variable: value})
