"""Equity that jumps: a portfolio is not sized on books that nobody has confirmed.

Each recorded decision stores the equity it was computed at; the next one may differ from it by
`equity_jump_max`. A confirmation forgets it, so that the next decision may be at any.
"""

import math

from compute.money.text import money
from server.calls.errors import precondition
from server.calls.request_context import Call
from server.convert.portfolio_changed import PortfolioChange
from server.observability.alerts import INFO, alert
from server.portfolios.portfolio_state import PortfolioState
from server.portfolios.state import States
from server.portfolios.told import read_portfolio, tell_changed
from server.portfolios.valuation import newest_market, stored_equity
from storage.postgres import outbox, portfolios
from storage.postgres.pool import Database


def check_equity(state: PortfolioState, equity: float) -> None:
    """Raises `Refusal` where equity is further from the accepted one than the parameters allow."""
    accepted, most = state.portfolio.equity_accepted, state.parameters.equity_jump_max
    if accepted is None or not 0.0 < accepted < math.inf:
        return
    change = equity / accepted - 1.0
    if abs(change) > most:
        raise precondition(
            "EQUITY_JUMP",
            f"the equity is {money(equity)}, {change:+.1%} from the {money(accepted)} of the "
            f"last decision; equity_jump_max allows {most:.1%}: put right what is wrong, or "
            "confirm it with ConfirmEquity",
            equity=repr(equity),
            equity_accepted=repr(accepted),
        )


async def confirm(
    database: Database, states: States, call: Call, portfolio_id: str, reason: str
) -> tuple[float | None, float | None]:
    """Forgets the accepted equity, and tells who did and why.

    Returns it with the equity at the newest market, None where there is none or it isn't known.
    """
    async with database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
        before = await portfolios.forget_equity(connection, call.tenant_id, portfolio_id)
        market = await newest_market(connection, states, call.tenant_id, portfolio_id)
        equity = await stored_equity(connection, states, call.tenant_id, portfolio_id, market)
        now = "unknown" if equity is None else money(equity)
        was = "none" if before is None else money(before)
        text = f"{call.author} confirmed the equity {now}, accepted before {was}: {reason}"
        subject = f"portfolio:{portfolio_id}"
        told = alert(INFO, "EQUITY_CONFIRMED", text, subject, call.trace_id)
        await outbox.append(connection, call.tenant_id, "", [told])
        stored = await read_portfolio(connection, call.tenant_id, portfolio_id)
        kind = PortfolioChange.EQUITY_CONFIRMED
        await tell_changed(connection, call, kind, stored, reason=reason)
    states.changed(call.tenant_id)
    return before, equity if equity is not None and math.isfinite(equity) else None
