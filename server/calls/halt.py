"""What a halt means to callers: why they are refused, and no old answer after it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from server.calls.errors import Refusal, precondition
from server.portfolios.portfolio_state import PortfolioState
from storage.postgres.scopes import ScopeKind

T = TypeVar("T")

REASON_LENGTH_MAX = 200
_LOOKS_MAX = 4


def refused(state: PortfolioState) -> Refusal:
    """What a caller is told while trading is halted: what is, by whom and why."""
    change = state.restriction
    if change is None:  # resumed between two statements
        return precondition("TRADING_HALTED", "trading is halted; nothing is sized")
    kind = "firm" if change.scope.kind is ScopeKind.TENANT else change.scope.kind.lower()
    scope = f"{kind} {change.scope.id!r}" if change.scope.id else "the firm"
    time = change.create_time.strftime("%Y-%m-%d %H:%M:%S UTC")
    why = change.reason[:REASON_LENGTH_MAX] or "no reason given"
    return precondition(
        "TRADING_HALTED",
        f"trading of {scope} was halted by {change.author!r} at {time}: {why}; nothing is sized",
        scope=f"{kind}:{change.scope.id}" if change.scope.id else kind,
        author=change.author,
        halt_reason=why,
        trading_state_version=str(change.tenant_version),
    )


async def unless_changed(
    states: Callable[[], Awaitable[Sequence[PortfolioState]]],
    solve: Callable[[Sequence[PortfolioState]], Awaitable[T]],
) -> T:
    """An answer that is not recorded, solved again where the trading state has changed meanwhile.

    A recorded one is compared at its commit; this one with the newest state there is just before it
    leaves. So none leaves under a state that was over for longer than a state may be old.
    """
    now = await states()
    for _ in range(_LOOKS_MAX):
        before, answer = now, await solve(now)
        now = await states()
        if all(a.trading_state is b.trading_state for a, b in zip(now, before, strict=True)):
            return answer
    raise precondition("TRADING_STATE_CHANGING", "the trading state keeps changing; ask again")
