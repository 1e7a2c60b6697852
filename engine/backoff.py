"""When a dead process is started again, and when it has died too often: pure values."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

NS_PER_S: Final = 1_000_000_000
_STREAK_MAX: Final = 32  # 2**32 times the shortest delay is beyond every longest one


class RestartPolicy(Struct, frozen=True, kw_only=True):
    """The bounds. A death is *early* when it comes within ``early_life_ns`` of the start."""

    delay_ns_min: int
    delay_ns_max: int
    early_life_ns: int = 10 * NS_PER_S
    loop_deaths: int = 5  # this many early deaths ...
    loop_window_ns: int = 60 * NS_PER_S  # ... within this time are a crash loop


class RestartHistory(Struct, frozen=True, kw_only=True):
    """What is remembered of one process: its recent early deaths, oldest first, and how many in a row."""

    early_deaths_mono_ns: tuple[int, ...] = ()  # at most loop_deaths of them
    streak: int = 0


def after_death(
    history: RestartHistory, policy: RestartPolicy, *, started_mono_ns: int, died_mono_ns: int
) -> RestartHistory:
    """The history with one death more. A life that was long enough ends the streak."""
    if died_mono_ns - started_mono_ns > policy.early_life_ns:
        return RestartHistory(early_deaths_mono_ns=history.early_deaths_mono_ns, streak=0)
    recent = tuple(
        moment
        for moment in (*history.early_deaths_mono_ns, died_mono_ns)
        if died_mono_ns - moment <= policy.loop_window_ns
    )
    return RestartHistory(
        early_deaths_mono_ns=recent[-policy.loop_deaths :], streak=min(history.streak + 1, _STREAK_MAX)
    )


def is_crash_loop(history: RestartHistory, policy: RestartPolicy, *, now_mono_ns: int) -> bool:
    """Whether the process has died ``loop_deaths`` times early within the window that ends now."""
    recent = [m for m in history.early_deaths_mono_ns if now_mono_ns - m <= policy.loop_window_ns]
    return len(recent) >= policy.loop_deaths


def restart_delay_ns(history: RestartHistory, policy: RestartPolicy, *, jitter: float) -> int:
    """Pause before the next start, within ``delay_ns_min..delay_ns_max``.

    Doubles with every early death in a row; ``jitter`` in 0..1 spreads it over the upper half, so that
    processes that died together do not start together.
    """
    ceiling = min(policy.delay_ns_max, policy.delay_ns_min << history.streak)
    floor = max(policy.delay_ns_min, ceiling // 2)
    return floor + int((ceiling - floor) * jitter)
