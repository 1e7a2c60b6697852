"""Users and their money: registration, deposit, mint, burn, market maker funds (sections 2.1 to 2.7)."""

from datetime import datetime

from msgspec.structs import replace

from engine.paper.clearing import burn_pairs, mint_pairs
from engine.paper.commands import (
    Burn,
    Deposit,
    Mint,
    RegisterUser,
    SetPassword,
    StartAmm,
    StopAmm,
    Withdraw,
)
from engine.paper.draft import Draft, Reference
from engine.paper.effects import AmmStarted, AmmStopped, Decision, Posted, Registered, Supplied
from engine.paper.matching import cancel_all_of
from engine.paper.model import (
    AMM_USER_ID,
    PAIR_CENTS,
    VOLUME_MAX,
    AmmRun,
    CancelReason,
    CancelScope,
    EntryType,
    Market,
    MarketStatus,
    ReferenceType,
    Side,
    User,
)
from engine.paper.refusal import Code, Refusal
from engine.paper.state import State


def register(state: State, command: RegisterUser, at: datetime) -> Decision:
    """Create a user and an empty account; the market maker's never nets (section 6)."""
    if command.username in state.users_by_name:
        raise Refusal(Code.USERNAME_TAKEN, f"username {command.username} is taken")
    if command.email.lower() in state.emails:
        raise Refusal(Code.EMAIL_TAKEN, f"email {command.email} is taken")
    draft = Draft(state, at)
    draft.user = User(
        id=command.user_id,
        username=command.username,
        email=command.email,
        password_hash=command.password_hash,
        is_active=True,
        created_at=at,
    )
    draft.open_account(command.user_id, auto_netting_enabled=command.user_id != AMM_USER_ID)
    return Decision(draft.effects(), Registered(user=draft.user))


def set_password(state: State, command: SetPassword, at: datetime) -> Decision:
    """Replace a user's password."""
    draft = Draft(state, at)
    draft.user = replace(state.users[command.user_id], password_hash=command.password_hash)
    return Decision(draft.effects(), Registered(user=draft.user))


def deposit(state: State, command: Deposit, at: datetime) -> Decision:
    """Put money on an account."""
    draft = Draft(state, at)
    reference = Reference(ReferenceType.DEPOSIT, draft.new_id(), None)
    entry_id = draft.post(command.user_id, EntryType.DEPOSIT, command.amount_cents, reference)
    return Decision(draft.effects(), _posted(draft, command.user_id, command.amount_cents, entry_id))


def withdraw(state: State, command: Withdraw, at: datetime) -> Decision:
    """Take money off an account's available cash, or refuse with 2001."""
    draft = Draft(state, at)
    available_cents = draft.purse(command.user_id).available_cents
    if available_cents < command.amount_cents:
        raise Refusal(
            Code.NOT_ENOUGH_CASH,
            f"available {available_cents} cents, withdrawal {command.amount_cents}",
        )
    reference = Reference(ReferenceType.WITHDRAW, draft.new_id(), None)
    entry_id = draft.post(command.user_id, EntryType.WITHDRAW, -command.amount_cents, reference)
    return Decision(draft.effects(), _posted(draft, command.user_id, command.amount_cents, entry_id))


def _posted(draft: Draft, user_id: str, amount_cents: int, entry_id: int) -> Posted:
    return Posted(
        available_cents=draft.purse(user_id).available_cents,
        amount_cents=amount_cents,
        ledger_entry_id=entry_id,
    )


def mint(state: State, command: Mint, at: datetime) -> Decision:
    """Turn 100 cents into one YES and one NO share, ``quantity`` times (2.6)."""
    market = _known_market(state, command.market_id)
    replay = _replayed(state, ReferenceType.AMM_MINT, command)
    if replay is not None:
        return Decision(None, replay)
    if market.status is not MarketStatus.ACTIVE:
        raise Refusal(Code.MARKET_NOT_ACTIVE, f"market {market.id} is {market.status}")
    draft = Draft(state, at, market)
    _require_cash(draft, command.user_id, PAIR_CENTS * command.quantity)
    _require_room(draft, command.user_id, command.quantity)
    key = mint_pairs(draft, command.user_id, command.quantity, command.idempotency_key)
    return Decision(draft.effects(), Supplied(key=key, replayed=False))


def burn(state: State, command: Burn, at: datetime) -> Decision:
    """Turn free pairs back into cash; allowed until a resolved market is settled (2.6, D27)."""
    market = _known_market(state, command.market_id)
    replay = _replayed(state, ReferenceType.AMM_BURN, command)
    if replay is not None:
        return Decision(None, replay)
    if market.status not in {MarketStatus.ACTIVE, MarketStatus.RESOLVED}:
        raise Refusal(Code.MARKET_NOT_ACTIVE, f"market {market.id} is {market.status}")
    draft = Draft(state, at, market)
    free = min(draft.holding(command.user_id, side).free for side in Side)
    if free < command.quantity:
        raise Refusal(Code.NOT_ENOUGH_SHARES, f"{free} free pairs, burn wants {command.quantity}")
    key = burn_pairs(draft, command.user_id, command.quantity, command.idempotency_key)
    return Decision(draft.effects(), Supplied(key=key, replayed=False))


def start_amm(state: State, command: StartAmm, at: datetime) -> Decision:
    """Deposit the budget on the market maker's account and mint half of it into pairs (2.7, D16)."""
    market = _known_market(state, command.market_id)
    if market.status is not MarketStatus.ACTIVE:
        raise Refusal(Code.MARKET_NOT_ACTIVE, f"market {market.id} is {market.status}")
    run = state.amm_runs.get(market.id)
    if run is not None and run.running:
        raise Refusal(Code.AMM_RUNNING, f"the market maker already runs in {market.id}")
    if not market.amm_approved:
        raise Refusal(Code.AMM_NOT_APPROVED, f"market {market.id} is not approved for the market maker")
    draft = Draft(state, at, market)
    draft.amm_run = AmmRun(market_id=market.id, running=True, changed_at=at)
    budget = Reference(ReferenceType.MARKET, market.id, market.id)
    draft.post(command.user_id, EntryType.DEPOSIT, command.initial_budget_cents, budget)
    pairs = command.initial_budget_cents // (2 * PAIR_CENTS)
    if pairs:
        _require_room(draft, command.user_id, pairs)
        mint_pairs(draft, command.user_id, pairs, f"amm_start_{draft.new_id()}")
    started = AmmStarted(
        run=draft.amm_run,
        initial_budget_cents=command.initial_budget_cents,
        initial_mint_quantity=pairs,
    )
    return Decision(draft.effects(), started)


def stop_amm(state: State, command: StopAmm, at: datetime) -> Decision:
    """Cancel the market maker's orders in a market; its shares and cash stay (2.7).

    Both modes mean the same to the exchange: GRACEFUL is the engine's promise to end its quote cycle first.
    """
    market = _known_market(state, command.market_id)
    run = state.amm_runs.get(market.id)
    if run is None or not run.running:
        raise Refusal(Code.AMM_NOT_RUNNING, f"the market maker does not run in {market.id}")
    draft = Draft(state, at, market)
    draft.amm_run = AmmRun(market_id=market.id, running=False, changed_at=at)
    cancelled = cancel_all_of(draft, command.user_id, CancelScope.ALL, CancelReason.AMM_STOPPED)
    stopped = AmmStopped(
        run=draft.amm_run,
        cancelled_orders_count=cancelled.cancelled_count,
        remaining_yes_inventory=draft.holding(command.user_id, Side.YES).volume,
        remaining_no_inventory=draft.holding(command.user_id, Side.NO).volume,
        remaining_balance_cents=draft.purse(command.user_id).available_cents,
    )
    return Decision(draft.effects(), stopped)


def _known_market(state: State, market_id: str) -> Market:
    market = state.markets.get(market_id)
    if market is None:
        raise Refusal(Code.MARKET_UNKNOWN, f"market {market_id} is unknown")
    return market


def _replayed(state: State, kind: ReferenceType, command: Mint | Burn) -> Supplied | None:
    key = state.supply_keys.get((kind, command.idempotency_key))
    if key is None:
        return None
    if (key.market_id, key.quantity) != (command.market_id, command.quantity):
        raise Refusal(
            Code.SUPPLY_KEY_REUSED,
            f"idempotency_key {command.idempotency_key} was used for {key.quantity} pairs of {key.market_id}",
        )
    return Supplied(key=key, replayed=True)


def _require_room(draft: Draft, user_id: str, pairs: int) -> None:
    held = max(draft.holding(user_id, side).volume for side in Side)
    if held + pairs > VOLUME_MAX:
        raise Refusal(Code.LIMIT_EXCEEDED, f"position {held} + {pairs} shares, allowed {VOLUME_MAX}")


def _require_cash(draft: Draft, user_id: str, cents: int) -> None:
    available_cents = draft.purse(user_id).available_cents
    if available_cents < cents:
        raise Refusal(Code.NOT_ENOUGH_CASH, f"available {available_cents} cents, mint costs {cents}")
