"""A strategy through the past: decided at each close as live, filled later, kept as an account.

    corporate actions, delistings -> fills of what was decided before -> mark -> night -> decide

Sizes come from `sizing.size`, the function that sizes live: the same waterfall, limits, whole lots
and guard. Nothing of a later session is known to a decision.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from compute.limits.policy import LimitKind
from compute.market import Floats, MissingInputError
from compute.money.day_loss import TradingDay
from compute.shapes import KernelRegistry
from compute.simulate.account import (
    Account,
    corporate_actions,
    delist,
    fill,
    night,
    split_into,
)
from compute.simulate.decision import Ask, Decider, Standing
from compute.simulate.history import PriceHistory
from compute.simulate.run_state import RunState
from compute.simulate.setting import FillAt, Setting
from compute.waterfall.layout import Stage


@dataclass(frozen=True)
class Backtest:
    """What came of a setting, a value a session, (T,).

    stage_growth: sum over sessions of log(1 + w'r), w the weights after each stage of the waterfall
    and r the returns to the next close, (len(Stage) + 1,), the last of the final lots; -inf where a
    stage's weights would have been ruined; None in the fast mode. units: held at each close,
    (T, m), where they were asked for. ruined: the first session with nothing left, or None.
    scaled_fills: fills cut because the open had moved beyond the cash at hand. refused: decisions
    that could not be made, by reason; refused_lines: lines of the others that were not sized, by
    reason. reducing: decisions in which nothing could grow after the loss of a day. bindings: lines
    cut last by each kind of limit.
    """

    dates: tuple[str, ...]
    equity: Floats
    cash: Floats
    gross_weight: Floats
    turnover: Floats
    trades: int
    decisions: int
    stage_growth: Floats | None
    account: Account
    scaled_fills: int
    refused: dict[str, int]
    bindings: dict[LimitKind, int]
    ruined: int | None
    units: Floats | None = None
    refused_lines: dict[str, int] = field(default_factory=dict)
    reducing: int = 0

    @property
    def returns(self) -> Floats:
        """Simple return of equity a session, (T - 1,), up to ruin."""
        end = len(self.equity) if self.ruined is None else self.ruined + 1
        equity = self.equity[:end]
        return equity[1:] / equity[:-1] - 1.0


class _Run:
    """One setting on its way through the history."""

    def __init__(
        self, history: PriceHistory, setting: Setting, decider: Decider, state: RunState
    ) -> None:
        self.history, self.setting, self.decider, self.state = history, setting, decider, state

    def step(self) -> None:
        """The next session."""
        history, setting, state = self.history, self.setting, self.state
        t = state.session
        mark, is_last = history.last_close[t], t + 1 == len(history.dates)
        self._corporate_actions(t)
        fills_at_mark = setting.fill_at is FillAt.SAME_CLOSE
        if not fills_at_mark:
            self._fill(t)
            if not is_last:
                self._night(t, mark)
        self._mark(t, mark)
        if state.ruined is None:
            self._watch_day(t)
            if not is_last:
                self._decide(t, mark)
                if fills_at_mark:  # the night is that of what is held then
                    self._fill(t)
                    self._night(t, mark)
        state.session = t + 1

    def _corporate_actions(self, t: int) -> None:
        state, history = self.state, self.history
        split = None if history.split is None else history.split[t]
        dividend = None if history.dividend is None else history.dividend[t]
        before, lot_size = history.last_close[max(t - 1, 0)], self.setting.lot_size
        state.account = corporate_actions(state.account, dividend, split, before, lot_size)
        if split is not None:
            state.orders = split_into(state.orders, split, lot_size)
        ends = history.delisting_price
        state.account = delist(state.account, None if ends is None else ends[t])

    def _night(self, t: int, mark: Floats) -> None:
        nights = _nights(self.history, t)
        self.state.account = night(self.state.account, mark, self.setting.costs, nights)

    def _mark(self, t: int, mark: Floats) -> None:
        state = self.state
        equity = state.account.equity(mark)
        if equity <= 0.0:
            state.ruined = t
            return
        state.equity[t], state.cash[t] = equity, state.account.cash
        state.highest = max(state.highest, equity)
        if state.units is not None:
            state.units[t] = state.account.units
        state.gross_weight[t] = float(np.nansum(np.abs(state.account.units * mark))) / equity

    def _fill(self, t: int) -> None:
        """Fills the orders; those in instruments without a price are gone, as day orders are."""
        history, state = self.history, self.state
        at_open = self.setting.fill_at is FillAt.NEXT_OPEN
        price = history.open[t] if at_open and history.open is not None else history.close[t]
        wanted = np.where(np.isnan(price), 0.0, state.orders)
        state.orders = np.zeros(len(wanted))
        if not wanted.any():
            return
        trade = affordable(state.account, wanted, price, self.setting)
        state.scaled_fills += bool((trade != wanted).any())
        before = state.account.equity(history.last_close[max(t - 1, 0)])
        state.turnover[t] = float(np.nansum(np.abs(trade * price))) / max(before, 1e-300)
        state.trades += int(np.count_nonzero(trade))
        costs, lot_size = self.setting.costs, self.setting.lot_size
        state.account = fill(state.account, trade, price, costs, lot_size)

    def _decide(self, t: int, mark: Floats) -> None:
        """Orders for what the strategy says now; without a word from it positions stay."""
        state, setting = self.state, self.setting
        equity = float(state.equity[t])
        weights = np.nan_to_num(state.account.units * mark) / equity
        stages = np.tile(weights, (len(Stage) + 1, 1))
        said = None
        if t % setting.rebalance_sessions == 0:
            said = setting.strategy(self.history, t)
        if said is not None:
            standing = Standing(state.account, equity, state.highest, state.is_reducing)
            try:
                decided = self.decider.decide(said, t, standing)
            except MissingInputError as error:
                state.refused[error.reason] += 1
            else:
                sizing = decided.sizing
                state.decisions += 1
                state.reducing += state.is_reducing
                state.refused_lines.update(decided.refused_lines)
                stages[:, said.instrument] = sizing.stages
                state.orders[said.instrument] = sizing.trade_lots * setting.lot_size
                state.bindings.update(LimitKind(int(kind)) for kind in sizing.binding.kind if kind)
        self._attribute(stages, t)

    def _watch_day(self, t: int) -> None:
        """Reduces after the loss of a day, which begins at the close before it.

        Where the limit says so a new day lifts it; else it holds to the end, as no person is there.
        """
        limits, state = self.setting.limits, self.state
        if limits.day_loss_max is None or t == 0:
            return
        before, now = (float(equity) for equity in state.equity[t - 1 : t + 1])
        day = TradingDay.opened(date.fromisoformat(self.history.dates[t]), before)
        state.is_reducing &= not limits.day_loss_resumes
        state.is_reducing |= day.passes(now, limits.day_loss_max)

    def _attribute(self, stages: Floats, t: int) -> None:
        """Adds the growth to the next close of the weights after each stage."""
        wealth = 1.0 + stages @ self.history.total_return[t + 1]
        with np.errstate(divide="ignore"):
            self.state.stage_growth += np.log(np.maximum(wealth, 0.0))


def run(
    history: PriceHistory,
    setting: Setting,
    kernels: KernelRegistry,
    ask: Ask | None = None,
    *,
    state: RunState | None = None,
    after_session: Callable[[RunState], None] = lambda state: None,
    keeps_units: bool = True,
) -> Backtest:
    """Runs one setting over the whole history; `ask` is for the method CUSTOM.

    state: of a run of the same history and setting, which is gone on with and changed; None: from
    the beginning. after_session: is shown the state after each session, and may keep a copy.
    keeps_units: whether the answer has `units`.

    Without opens in the history, orders for the next open are filled at the next close. A decision
    that lacks data is refused and counted; positions stay.
    """
    if state is None:
        state = RunState.at_start(setting.cash, history.close.shape, keeps_units=keeps_units)
    on_its_way = _Run(history, setting, Decider(history, setting, kernels, ask), state)
    while not state.is_over:
        on_its_way.step()
        after_session(state)
    return Backtest(
        dates=history.dates,
        equity=state.equity,
        cash=state.cash,
        gross_weight=state.gross_weight,
        turnover=state.turnover,
        trades=state.trades,
        decisions=state.decisions,
        stage_growth=state.stage_growth,
        account=state.account,
        scaled_fills=state.scaled_fills,
        refused=dict(state.refused),
        bindings=dict(state.bindings),
        ruined=state.ruined,
        units=state.units,
        refused_lines=dict(state.refused_lines),
        reducing=state.reducing,
    )


def affordable(account: Account, wanted: Floats, price: Floats, setting: Setting) -> Floats:
    """The trades that the cash at hand pays for: increases are cut alike, in whole lots.

    The decision has counted its cash at the close; the open may be dearer. Sales of the same moment
    come first, and their proceeds count; those of short positions do not.
    """
    value = np.where(wanted != 0.0, price, 0.0)
    after = account.units + wanted
    bought = np.maximum(np.maximum(after, 0.0) - np.maximum(account.units, 0.0), 0.0)
    sold = np.maximum(np.maximum(account.units, 0.0) - np.maximum(after, 0.0), 0.0)
    marked = np.where(account.units < 0.0, np.nan_to_num(price), 0.0)
    short = -float(marked @ np.minimum(account.units, 0.0))
    costs = setting.costs
    rate = 1.0 + costs.slippage_rate + costs.commission_rate
    fees = costs.commission_fixed * float(np.count_nonzero(wanted))
    free = account.cash - short + float(sold @ value) * (2.0 - rate) - fees
    need = float(bought @ value) * rate
    if need <= max(free, 0.0) or need == 0.0:
        return wanted
    lots = np.trunc(bought * max(free, 0.0) / need / setting.lot_size) * setting.lot_size
    return np.where(bought > 0.0, wanted - bought + lots, wanted)


def _nights(history: PriceHistory, t: int) -> float:
    """Calendar days to the next session."""
    first, second = (date.fromisoformat(history.dates[i]) for i in (t, t + 1))
    return float((second - first).days)
