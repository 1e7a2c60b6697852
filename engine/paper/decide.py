"""The exchange's core in one signature: (state, command, time) -> decision.

Nothing here or below writes the state, reads a clock or does I/O. A refused command raises
:class:`~engine.paper.refusal.Refusal` and has no effects. The same commands at the same times in the same
order always build the same exchange.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from engine.paper import commands, lifecycle, matching, treasury
from engine.paper.effects import Decision
from engine.paper.state import State

# Any: each decider takes its own command type; the key it stands under guarantees the match.
_DECIDERS: Final[dict[type, Callable[[State, Any, datetime], Decision]]] = {
    commands.PlaceOrder: matching.place,
    commands.CancelOrder: matching.cancel,
    commands.ReplaceOrder: matching.replace_order,
    commands.BatchCancel: matching.batch_cancel,
    commands.RegisterUser: treasury.register,
    commands.SetPassword: treasury.set_password,
    commands.Deposit: treasury.deposit,
    commands.Withdraw: treasury.withdraw,
    commands.Mint: treasury.mint,
    commands.Burn: treasury.burn,
    commands.StartAmm: treasury.start_amm,
    commands.StopAmm: treasury.stop_amm,
    commands.CreateMarket: lifecycle.create,
    commands.SetMarketStatus: lifecycle.set_status,
    commands.HaltMarket: lifecycle.halt,
    commands.ResolveMarket: lifecycle.resolve,
    commands.SettleMarket: lifecycle.settle,
}


def decide(state: State, command: commands.Command, at: datetime) -> Decision:
    """Decide one command on a state that is only read; raises Refusal if it is declined."""
    return _DECIDERS[type(command)](state, command, at)
