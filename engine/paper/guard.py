"""The last look at a transaction before it becomes true: what it moves must add up.

The invariants of section 7 as differences: if they held before and the effects keep these sums, they hold
afterwards. Reads only the rows the effects replace, so it is cheap enough for every commit; the full check is
:mod:`engine.paper.invariants`.
"""

from collections import defaultdict

from engine.paper.effects import Effects
from engine.paper.invariants import Breach
from engine.paper.model import PAIR_CENTS, SYSTEM_RESERVE, EntryType
from engine.paper.state import State


def check_effects(state: State, effects: Effects) -> Breach | None:
    """The first way in which ``effects`` would break an invariant of ``state``, or None."""
    market = effects.market
    before = state.markets.get(market.id) if market is not None else None
    reserve_cents = pnl_cents = pairs = 0
    if market is not None:
        if not market.total_yes_shares == market.total_no_shares >= 0:
            return _breach(effects, "shares_balanced", f"{market.total_yes_shares}/{market.total_no_shares}")
        if market.reserve_balance_cents != PAIR_CENTS * market.total_yes_shares:
            return _breach(effects, "reserve_consistency", f"reserve {market.reserve_balance_cents}")
        reserve_cents, pnl_cents, pairs = (
            market.reserve_balance_cents,
            market.pnl_pool_cents,
            market.total_yes_shares,
        )
        if before is not None:
            reserve_cents -= before.reserve_balance_cents
            pnl_cents -= before.pnl_pool_cents
            pairs -= before.total_yes_shares
    return _check_shares(state, effects, pairs, reserve_cents + pnl_cents) or _check_cash(
        state, effects, reserve_cents
    )


def _check_shares(state: State, effects: Effects, pairs: int, cost_cents: int) -> Breach | None:
    """Volumes move with the market's totals, costs with reserve and pnl_pool; nothing is negative."""
    for position in effects.positions:
        stored = state.positions[position.market_id].get(position.user_id)
        for holding in (position.yes, position.no):
            if not (0 <= holding.pending_sell <= holding.volume and holding.cost_sum_cents >= 0):
                return _breach(effects, "non_negative", f"{position.user_id}: {holding}")
        cost_cents -= position.yes.cost_sum_cents + position.no.cost_sum_cents
        if stored is not None:
            cost_cents += stored.yes.cost_sum_cents + stored.no.cost_sum_cents
    if cost_cents:
        return _breach(effects, "cost_conservation", f"off by {cost_cents} cents")
    yes = sum(position.yes.volume for position in effects.positions)
    no = sum(position.no.volume for position in effects.positions)
    for position in effects.positions:
        stored = state.positions[position.market_id].get(position.user_id)
        if stored is not None:
            yes -= stored.yes.volume
            no -= stored.no.volume
    if not yes == no == pairs:
        return _breach(effects, "shares_balanced", f"totals move by {pairs}, volumes by {yes}/{no}")
    return None


def _check_cash(state: State, effects: Effects, reserve_cents: int) -> Breach | None:
    """Every cent comes from somewhere, and every account's ledger explains its new balance."""
    explained: dict[str, int] = defaultdict(int)
    paid_in_cents = 0
    for entry in effects.ledger:
        explained[entry.user_id] += entry.amount_cents
        if entry.entry_type is EntryType.DEPOSIT or entry.entry_type is EntryType.WITHDRAW:
            paid_in_cents += entry.amount_cents
    if explained[SYSTEM_RESERVE] != reserve_cents:
        return _breach(
            effects,
            "reserve_account_consistency",
            f"SYSTEM_RESERVE moves by {explained[SYSTEM_RESERVE]}, the reserve by {reserve_cents}",
        )
    moved_cents = 0
    for account in effects.accounts:
        if account.available_cents < 0 or account.frozen_cents < 0:
            return _breach(effects, "non_negative", str(account))
        stored = state.accounts.get(account.user_id)
        available_cents, frozen_cents = account.available_cents, account.frozen_cents
        if stored is not None:
            available_cents -= stored.available_cents
            frozen_cents -= stored.frozen_cents
        if available_cents != explained[account.user_id]:
            return _breach(
                effects,
                "ledger",
                f"{account.user_id} moves by {available_cents}, its rows by {explained[account.user_id]}",
            )
        moved_cents += available_cents + frozen_cents
    if moved_cents != paid_in_cents:
        return _breach(effects, "global_zero_sum", f"accounts move by {moved_cents}, paid in {paid_in_cents}")
    return None


def _breach(effects: Effects, check: str, what: str) -> Breach:
    """Name the market that has to stop: a command touches one at most."""
    market_ids = [market.id for market in (effects.market,) if market is not None]
    market_ids += [order.market_id for order in effects.orders]
    market_ids += [position.market_id for position in effects.positions]
    return Breach(check=check, market_id=market_ids[0] if market_ids else None, what=what)
