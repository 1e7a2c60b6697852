"""When a dead process comes back, and when it has died too often."""

from __future__ import annotations

from engine.backoff import RestartHistory, RestartPolicy, after_death, is_crash_loop, restart_delay_ns

S = 1_000_000_000
POLICY = RestartPolicy(delay_ns_min=S // 10, delay_ns_max=10 * S)


def died(history: RestartHistory, *, at_s: float, lived_s: float) -> RestartHistory:
    started = int((at_s - lived_s) * S)
    return after_death(history, POLICY, started_mono_ns=started, died_mono_ns=int(at_s * S))


def delays(history: RestartHistory) -> tuple[int, int]:
    """Shortest and longest pause that the jitter can make."""
    return (
        restart_delay_ns(history, POLICY, jitter=0.0),
        restart_delay_ns(history, POLICY, jitter=1.0),
    )


def test_the_pause_doubles_with_each_early_death_up_to_the_bound() -> None:
    history = RestartHistory()
    seen = []
    for k in range(12):
        history = died(history, at_s=20.0 * k, lived_s=1)
        seen.append(delays(history))
    assert seen[:3] == [(S // 10, S // 5), (S // 5, 2 * S // 5), (2 * S // 5, 4 * S // 5)]
    assert seen[-1] == (5 * S, 10 * S)
    assert all(POLICY.delay_ns_min <= low <= high <= POLICY.delay_ns_max for low, high in seen)


def test_a_long_life_ends_the_streak() -> None:
    history = died(died(RestartHistory(), at_s=1, lived_s=1), at_s=3, lived_s=1)
    assert delays(died(history, at_s=30, lived_s=20)) == (S // 10, S // 10)


def test_five_early_deaths_in_a_minute_are_a_loop() -> None:
    history = RestartHistory()
    for k in range(5):
        assert not is_crash_loop(history, POLICY, now_mono_ns=int(14.9 * k * S))
        history = died(history, at_s=14.9 * k, lived_s=1)
    assert is_crash_loop(history, POLICY, now_mono_ns=60 * S - S // 2)
    assert not is_crash_loop(history, POLICY, now_mono_ns=61 * S), "the first has left the window"


def test_five_early_deaths_spread_wider_are_none() -> None:
    history = RestartHistory()
    for k in range(50):
        history = died(history, at_s=16.0 * k, lived_s=1)
        assert not is_crash_loop(history, POLICY, now_mono_ns=int(16.0 * k * S))
        assert len(history.early_deaths_mono_ns) <= POLICY.loop_deaths


def test_late_deaths_are_not_counted() -> None:
    history = RestartHistory()
    for k in range(20):
        history = died(history, at_s=11.0 * (k + 1), lived_s=10.5)
    assert not is_crash_loop(history, POLICY, now_mono_ns=220 * S)
