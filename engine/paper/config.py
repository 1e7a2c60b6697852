"""Configuration of the paper exchange: one TOML file, checked before anything starts.

Secrets are not in the file. They come from the environment at start: ``COREQUOTE_AMM_PASSWORD`` (unset: no
password opens the market maker's account), ``COREQUOTE_OPERATOR_PASSWORD`` (set: the admin account
``operator`` exists), ``COREQUOTE_JWT_SECRET`` (unset: made anew at each start, so tokens end with the
process) and ``COREQUOTE_SERVICE_TOKEN`` (set: accepted for 24 hours as the market maker's service token).
"""

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec

from engine.paper.dialect import DialectName
from engine.paper.kafka import NO_EVENTS, kafka_servers
from engine.paper.limits import LimitProfile
from engine.paper.model import MarketStatus

EXIT_CONFIG: Final = 78
"""Exit code for a bad configuration: a supervisor must not simply start the process again."""

OPERATOR_USERNAME: Final = "operator"
SEED_OPEN_DAYS: Final = 30

Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}(?![\s\S])")]
PriceCents = Annotated[int, msgspec.Meta(ge=1, le=99)]
FeeBps = Annotated[int, msgspec.Meta(ge=0, le=1000)]
Shares = Annotated[int, msgspec.Meta(ge=1, le=2_147_483_647)]
Cents = Annotated[int, msgspec.Meta(ge=1, le=9_000_000_000_000_000)]


class MarketSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Columns of a market to create (section 6); the defaults are the schema's."""

    id: Id
    """Market id, at most 64 characters of A-Z a-z 0-9 _ -."""
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    description: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None
    category: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    status: MarketStatus = MarketStatus.ACTIVE
    """DRAFT or ACTIVE."""
    min_price_cents: PriceCents = 1
    max_price_cents: PriceCents = 99
    """Must be above min_price_cents."""
    max_order_quantity: Shares = 10_000
    """Largest order, shares."""
    max_position_per_user: Shares = 25_000
    """Largest holding of one outcome that a buy order may aim at, shares; the market maker is exempt."""
    max_order_amount_cents: Cents = 1_000_000
    """Largest price x quantity of one order, cents."""
    maker_fee_bps: FeeBps = 10
    taker_fee_bps: FeeBps = 20
    amm_approved: bool = True
    """Whether the market maker may be started here."""
    created_at: datetime | None = None
    """Default: the moment of creation."""
    trading_start_at: datetime | None = None
    trading_end_at: datetime | None = None
    """Informative: it does not block orders by itself (D10)."""
    resolution_date: datetime | None = None

    def __post_init__(self) -> None:
        if self.min_price_cents >= self.max_price_cents:
            raise ValueError(
                f"min_price_cents {self.min_price_cents} must be below max_price_cents {self.max_price_cents}"
            )
        if self.status not in {MarketStatus.DRAFT, MarketStatus.ACTIVE}:
            raise ValueError(f"status {self.status}: a new market is DRAFT or ACTIVE")
        for name in ("created_at", "trading_start_at", "trading_end_at", "resolution_date"):
            value: datetime | None = getattr(self, name)
            if value is None:
                continue
            if value.tzinfo is None:
                raise ValueError(f"{name} {value.isoformat()} must name its offset from UTC")
            try:
                value.astimezone(UTC)
            except OverflowError:
                raise ValueError(f"{name} {value.isoformat()} is no time in UTC") from None
        for name in ("title", "description", "category"):
            text: str | None = getattr(self, name)
            if text is not None and "\0" in text:
                raise ValueError(f"{name} {text!r} contains a NUL, which no table can store")


class PaperConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the exchange can be told in its file."""

    markets: tuple[MarketSettings, ...] | None = None
    """Markets that exist at start; default: the three seed markets of section 6."""
    admin_users: tuple[str, ...] = (OPERATOR_USERNAME,)
    """Usernames that may use /admin (D15)."""
    exempt_users: tuple[str, ...] = ()
    """Usernames no rate limit applies to, such as simulated traders."""
    dialect: DialectName = DialectName.CONTRACT
    """How it speaks: contract, or as-built like the running platform (section 2.8)."""
    limits: LimitProfile = LimitProfile.CONTRACT
    """Rate-limit profile: contract, jwt_mvp or off (section 1.7); as-built there is none."""
    events: str = NO_EVENTS
    """Event bus (section 4): none, or kafka://HOST:PORT[,HOST:PORT...]."""
    snapshot_interval_ms: Annotated[int, msgspec.Meta(ge=100, le=3_600_000)] = 30_000
    """How often a book stream repeats its snapshot, milliseconds."""
    connections_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    """How many connections are open at a time, streams included; one more is answered 503 and closed."""
    faults: bool = False
    """Whether the fault switches exist: PUT and GET /admin/faults."""
    password_hash_rounds: Annotated[int, msgspec.Meta(ge=4, le=16)] = 10
    """Work factor of password hashes; each step doubles the time of a login."""

    def __post_init__(self) -> None:
        if kafka_servers(self.events) and self.dialect is DialectName.AS_BUILT:
            raise ValueError(f"events {self.events!r}: the as-built dialect has no event bus")
        ids = [market.id for market in self.markets or ()]
        for market_id in ids:
            if ids.count(market_id) > 1:
                raise ValueError(f"market id {market_id} appears {ids.count(market_id)} times, allowed once")


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment tells the exchange; never printed."""

    amm_password: str | None
    operator_password: str | None
    jwt_secret: str | None
    service_token: str | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Secrets":
        """Read the four variables; an empty value counts as unset."""

        def read(name: str) -> str | None:
            return environment.get(name) or None

        return cls(
            amm_password=read("COREQUOTE_AMM_PASSWORD"),
            operator_password=read("COREQUOTE_OPERATOR_PASSWORD"),
            jwt_secret=read("COREQUOTE_JWT_SECRET"),
            service_token=read("COREQUOTE_SERVICE_TOKEN"),
        )


class ConfigError(Exception):
    """A configuration that cannot be used: one line with file, key, value and rule."""


def load_config(path: Path) -> PaperConfig:
    """Read and check a configuration file; raises :class:`ConfigError`."""
    try:
        with path.open("rb") as file:
            raw = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    try:
        return msgspec.convert(raw, PaperConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {named_value(raw, str(error))}") from error


def named_value(raw: object, message: str) -> str:
    """Add the offending value to msgspec's message, which names only the key (`... - at `$.a[0].b``)."""
    rule, separator, where = message.partition(" - at `$")
    if not separator:
        return message
    key_path = where.rstrip("`")
    value = raw
    for part in key_path.replace("[", ".").replace("]", "").split("."):
        if not part:
            continue
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]  # type: ignore[index]
        except (KeyError, IndexError, ValueError, TypeError):
            return f"{key_path.lstrip('.')}: {rule}"
    if isinstance(value, dict | list):
        return f"{key_path.lstrip('.')}: {rule}"
    return f"{key_path.lstrip('.')} = {value!r}: {rule}"


def seed_markets(now: datetime) -> tuple[MarketSettings, ...]:
    """The three markets of section 6, open for thirty days from ``now``."""
    end = now.astimezone(UTC) + timedelta(days=SEED_OPEN_DAYS)
    titles = {
        "MKT-BTC-100K-2026": "Will Bitcoin trade above $100,000 in 2026?",
        "MKT-ETH-10K-2026": "Will Ether trade above $10,000 in 2026?",
        "MKT-FED-RATE-CUT-2026Q2": "Will the Federal Reserve cut rates in the second quarter of 2026?",
    }
    return tuple(
        MarketSettings(id=market_id, title=title, created_at=now, trading_end_at=end, resolution_date=end)
        for market_id, title in titles.items()
    )
