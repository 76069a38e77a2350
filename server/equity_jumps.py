"""Equity that jumps: a portfolio is not sized on books that nobody has confirmed."""

from server.errors import precondition
from server.state import PortfolioState


def check_equity(state: PortfolioState, equity: float) -> None:
    """Raises `Refusal` where equity is further from the accepted one than the parameters allow."""
    accepted = state.portfolio.equity_accepted
    if accepted is None or not accepted > 0.0:
        return
    change, most = equity / accepted - 1.0, state.parameters.equity_jump_max
    if abs(change) > most:
        raise precondition(
            "EQUITY_JUMP",
            f"the equity is {equity:.6g}, {change:+.1%} from the {accepted:.6g} of the last decision; "
            f"equity_jump_max allows {most:.1%}: put right what is wrong, or confirm it with "
            "ConfirmEquity",
            equity=repr(equity),
            equity_accepted=repr(accepted),
        )
