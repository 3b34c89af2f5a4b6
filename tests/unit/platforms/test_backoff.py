from mesh.platforms.backoff import RESET_AFTER_S, Backoff


def test_the_first_restart_is_at_once_and_the_next_ones_wait_twice_as_long_each() -> None:
    backoff = Backoff(first_s=1, limit_s=5)
    assert [backoff.after(0.1) for _ in range(6)] == [0, 1, 2, 4, 5, 5]


def test_a_long_life_starts_over() -> None:
    backoff = Backoff(first_s=1, limit_s=5)
    for _ in range(4):
        backoff.after(0.1)
    assert [backoff.after(RESET_AFTER_S), backoff.after(0.1)] == [0, 1]
