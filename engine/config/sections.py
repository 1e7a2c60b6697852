"""The sections of a file that are not about quoting: processes, exchange, Redis. Read at start only."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from engine.config.setting import setting

#: How a quoter waits for work, laziest last: on a core of its own, giving way, or asleep until it is woken.
Wait = Literal["spin", "yield", "park"]

Realtime = Literal["auto", "require", "off"]


class EngineConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The processes of one engine."""

    run_dir: Annotated[str, setting("C", "D", "private (0700) directory; empty = a fresh one")] = ""
    wait: Annotated[
        Wait,
        setting("C", "D", "how a quoter waits: a core of its own, giving way, or asleep until it is woken"),
    ] = "park"
    spin_count: Annotated[
        int, setting("C", "D", "park: polls before it sleeps", unit="polls", ge=0, le=10_000_000)
    ] = 200
    realtime: Annotated[
        Realtime,
        setting(
            "C", "D", "SCHED_RR for those that trade: where it may be had, or no start without it, or never"
        ),
    ] = "auto"
    cores: (
        Annotated[
            list[Annotated[int, Meta(ge=0)]],
            setting("C", "D", "cores dealt out to quoters", unset="all this process may use"),
        ]
        | None
    ) = None
    workers: Annotated[
        int, setting("C", "D", "quoter processes; 0 = one per market", unit="processes", ge=0, le=1024)
    ] = 0
    heartbeat_timeout_ms: Annotated[
        int,
        setting("C", "D", "silent for longer: killed, started again", unit="ms", ge=200, le=60_000),
    ] = 1_000
    start_timeout_ms: Annotated[
        int, setting("C", "D", "the same until it runs for the first time", unit="ms", ge=1_000, le=120_000)
    ] = 30_000
    intent_fsync: Annotated[
        Literal["each", "interval", "off"],
        setting("C", "D", "when the journal of intents is synced: what survives the machine's death"),
    ] = "interval"
    intent_fsync_interval_ms: Annotated[
        int, setting("C", "D", "interval: so much may be lost with the machine", unit="ms", ge=1, le=10_000)
    ] = 50
    intent_segments_kept: Annotated[
        int, setting("C", "D", "reconciled segments of 1 MiB kept", unit="segments", ge=0, le=100_000)
    ] = 8
    stop_timeout_ms: Annotated[
        int, setting("C", "D", "patience with each stage of an orderly stop", unit="ms", ge=500, le=60_000)
    ] = 10_000
    guard_patience_ms: Annotated[
        int,
        setting("C", "D", "longest sweep of an outliving guard", unit="ms", ge=1_000, le=86_400_000),
    ] = 600_000
    restart_backoff_min_ms: Annotated[
        int,
        setting("C", "D", "pause before a restart; doubles each time", unit="ms", ge=10, le=10_000),
    ] = 100
    restart_backoff_max_ms: Annotated[
        int, setting("C", "D", "longest pause before a restart", unit="ms", ge=100, le=60_000)
    ] = 10_000


class VenueConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The exchange account. Secrets come from the environment or a 0600 file, never from here."""

    url: Annotated[
        str,
        setting("C", "D", "REST and WebSocket: scheme, host and port", pattern=r"^https?://[^\s/]+(:\d+)?$"),
    ] = "http://127.0.0.1:8000"
    username: Annotated[str, setting("C", "D", "who trades")] = "amm_market_maker"
    password_env: Annotated[str, setting("C", "D", "the variable that holds the password")] = (
        "COREQUOTE_AMM_PASSWORD"  # noqa: S105 - the name of a variable
    )
    password_file: Annotated[str, setting("C", "D", "read instead of it when given; must be 0600")] = ""
    request_timeout_ms: Annotated[
        int, setting("C", "D", "then the outcome counts as unknown", unit="ms", ge=50, le=60_000)
    ] = 2_000
    connections: Annotated[
        int,
        setting(
            "C",
            "D",
            "REST connections kept; a ladder that moves uses one for each of its orders",
            ge=1,
            le=256,
        ),
    ] = 40
    order_rate_limit: Annotated[
        int,
        setting(
            "C",
            "C H",
            "requests that the exchange allows the account",
            unit="/min",
            ge=10,
            le=100_000,
            aliases=("amm_rate_limit",),
        ),
    ] = 600
    trade_poll_interval_ms: Annotated[
        int, setting("C", "C", "own trades are asked for at least this often", unit="ms", ge=100, le=60_000)
    ] = 1_000
    fills: Annotated[
        Literal["rest", "kafka"],
        setting("C", "D", "who tells fills: the trade list, or the event bus with the list for repair"),
    ] = "rest"
    kafka: Annotated[
        str,
        setting(
            "C",
            "D",
            "fills = kafka: the brokers, HOST:PORT with commas between them (no TLS, no user)",
            pattern=r"^$|^[A-Za-z0-9_.\[\]:-]+:\d{1,5}(,[A-Za-z0-9_.\[\]:-]+:\d{1,5})*$",
        ),
    ] = ""
    kafka_repair_interval_ms: Annotated[
        int,
        setting(
            "C", "D", "fills = kafka: the trade list is still asked this often", unit="ms", ge=100, le=600_000
        ),
    ] = 5_000
    status_poll_interval_ms: Annotated[
        int, setting("C", "S", "market status is asked for this often", unit="ms", ge=100, le=5_000)
    ] = 1_000
    reconcile_interval_ms: Annotated[
        int,
        setting(
            "C",
            "D",
            "cap of reconciliation_interval_ms of all",
            unit="ms",
            ge=1_000,
            le=600_000,
        ),
    ] = 300_000


class RedisConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the published copy goes."""

    url: Annotated[
        str, setting("C", "D", "empty = the embedded Valkey", pattern=r"^$|^(redis|rediss|unix)://\S+$")
    ] = ""
    interval_ms: Annotated[
        int, setting("C", "D", "longest wait of a changed row", unit="ms", ge=1, le=5_000)
    ] = 50
    timeout_ms: Annotated[int, setting("C", "D", "of one batch", unit="ms", ge=50, le=60_000)] = 1_000
    pause_after_ms: Annotated[
        int,
        setting(
            "C", "D", "quoting goes on so long without Redis, then pauses", unit="ms", ge=1_000, le=600_000
        ),
    ] = 10_000
    publish_updates: Annotated[bool, setting("C", "D", "PUBLISH market id and version on amm:updates")] = True
