"""One decision of a backtest: what a live one would be sized from, at the close of a session.

The same rules refuse lines, the same adjustments come off the Kelly fraction and the edges, and
`sizing.size` sizes. What is looked up live (clock, high-water mark, estimates) comes from the
history up to that session, and from the account.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compute.adapt.adjustment import Adjustment, floored, fraction_multiplier, scheduled
from compute.adapt.edge import multiplied
from compute.adapt.line_rules import scheduled_lines
from compute.algorithm import (
    AlgorithmAnswer,
    AlgorithmInput,
    AlgorithmPortfolio,
    columns_of,
    numbers_of,
    unusable,
    with_sizes,
)
from compute.correlation.penalty import CorrelationPenalty
from compute.inputs import Inputs
from compute.learn.predicted import line_multipliers
from compute.limits.book_guard import NO_DATA, ReturnData
from compute.limits.bounds import prepare
from compute.limits.closing import is_solvent
from compute.limits.cluster_limits import find_clusters, with_clusters
from compute.limits.stress_limits import with_stress
from compute.market import Floats, Integers, Market, Positions, equity_of
from compute.methods import Engine
from compute.parameters import AlgorithmChoice, EffectiveParameters
from compute.shapes import KernelRegistry
from compute.signals import LineError, check
from compute.simulate.account import Account
from compute.simulate.history import PriceHistory
from compute.simulate.setting import Setting
from compute.simulate.strategies import SessionSignals
from compute.sizing import size
from compute.waterfall.pipeline import Sizing
from compute.waterfall.usable import check_book, check_market

SESSIONS_PER_YEAR = 252.0

Ask = Callable[[AlgorithmChoice, AlgorithmInput], AlgorithmAnswer]
"""Asks a custom algorithm; the answer has a weight for each line of the question."""


@dataclass(frozen=True)
class Standing:
    """What a decision at a close knows of its account.

    equity: at this close; highest: the highest so far. reducing: no position may grow.
    """

    account: Account
    equity: float
    highest: float
    reducing: bool = False


@dataclass(frozen=True)
class Decided:
    """A sizing with the lines that were refused, by reason."""

    sizing: Sizing
    refused_lines: Counter[str]


class Decider:
    """Makes the decisions of one setting on one history."""

    def __init__(
        self,
        history: PriceHistory,
        setting: Setting,
        kernels: KernelRegistry,
        ask: Ask | None = None,
    ) -> None:
        """ask: of the method CUSTOM."""
        self._history, self._setting, self._kernels, self._ask = history, setting, kernels, ask

    def decide(self, said: SessionSignals, t: int, standing: Standing) -> Decided:
        """The sizing of what a strategy says at the close of session t.

        Raises `MissingInputError` where a limit or parameter lacks data, or no sizes satisfy the
        limits together.
        """
        history, setting = self._history, self._setting
        market, held = market_at(history, t, setting.lot_size), standing.account.units
        places = np.flatnonzero(~np.isnan(history.last_close[t]))
        nothing = np.zeros(len(places))
        positions = Positions(held[places], nothing, nothing, standing.account.cash)
        known = np.isin(said.instrument, places)
        index = np.where(known, np.searchsorted(places, said.instrument), 0)
        ids = tuple(history.instrument_ids[place] for place in said.instrument)
        parameters, adjustments = self._adjusted(ids, t, standing)
        signals = said.signals
        if (m := line_multipliers(adjustments)) is not None:
            signals = multiplied(signals, parameters.risk_free_rate, m)
        returns = NO_DATA if setting.estimates is None else setting.estimates.at(history, t)
        limits = setting.limits
        errors = [
            *_unpriced(ids, known),
            *check(said.signals, market.price[index]),
            *check_market(said.signals, np.where(known, index, -1), market, parameters, limits),
            *_unestimated(ids, parameters, returns),
        ]
        active = np.ones(len(index), dtype=bool)
        active[[error.line for error in errors]] = False
        if is_solvent(equity_of(market, positions)):
            sized = index[active]
            if limits.clusters:
                found = find_clusters(limits, market, positions, sized, returns)
                limits = with_clusters(limits, found)
            if limits.joint.stress:
                concern = np.union1d(positions.taken, sized)
                names = [market.instrument_ids[place] for place in concern]
                limits = with_stress(limits, setting.stress, names, returns)
        inputs = Inputs(
            signals=signals,
            index=index,
            active=active,
            known=known,
            limit_bounds=prepare(market, positions, limits),
            parameters=parameters,
            reducing=standing.reducing,
            returns=returns,
            method=parameters.method,
        )
        check_book(market, positions, parameters.risk_budget, limits)
        if parameters.method.engine is Engine.OUTSIDE and not inputs.limit_bounds.is_closing:
            inputs, more = self._asked(inputs, ids)
            errors += more
        _ = inputs.book_guard  # raises where a limit of the book lacks its data
        reasons = {error.line: error.reason for error in reversed(errors)}
        return Decided(size(inputs, self._kernels), Counter(reasons.values()))

    def _adjusted(
        self, ids: tuple[str, ...], t: int, standing: Standing
    ) -> tuple[EffectiveParameters, list[Adjustment]]:
        """The parameters in force at session t, and what came off them."""
        parameters, found = self._setting.parameters, list[Adjustment]()
        if self._setting.clock is not None:
            moment = self._setting.clock.moment(self._history.dates[t])
            found += scheduled(parameters.schedule, moment)
            found += scheduled_lines(parameters.schedule, ids, moment)
        found += floored(parameters, standing.equity, standing.highest)
        if self._setting.estimates is not None and parameters.correlation_penalty is None:
            # A covariance is at hand, with which the penalty is on unless it is turned off.
            on = CorrelationPenalty.QUADRATIC
            parameters = replace(parameters, correlation_penalty=on)
        return replace(parameters, fraction_multiplier=fraction_multiplier(found)), found

    def _asked(self, inputs: Inputs, ids: tuple[str, ...]) -> tuple[Inputs, list[LineError]]:
        """The inputs with the sizes of the custom algorithm, and the lines it left without one."""
        chosen = inputs.parameters.algorithm
        if self._ask is None or chosen is None:
            raise ValueError("the method CUSTOM needs an algorithm and somebody to ask it")
        bounds = inputs.limit_bounds
        active = np.flatnonzero(inputs.active)
        question = AlgorithmInput(
            instrument_ids=tuple(ids[line] for line in active),
            columns=columns_of(inputs, self._kernels),
            parameters={**numbers_of(inputs.parameters), **dict(chosen.parameters)},
            portfolio=AlgorithmPortfolio(
                portfolio_id="",
                strategy_id="",
                base_currency="",
                equity=bounds.equity,
                free=bounds.free,
                gross_weight=bounds.gross_before,
                net_weight=bounds.net_before,
                is_reducing=inputs.must_reduce,
            ),
        )
        answer = self._ask(chosen, question)
        weight: Floats = np.full(len(ids), np.nan)
        weight[active] = np.nan_to_num(answer.weight, nan=np.nan)
        left = unusable(replace(answer, weight=weight), inputs)
        lines: Integers = np.array([error.line for error in left], dtype=np.int64)
        return with_sizes(inputs, weight, lines), left


def _unpriced(ids: tuple[str, ...], known: NDArray[np.bool_]) -> list[LineError]:
    """Lines of instruments that have had no price yet, or are delisted."""
    text, reason = "has no price at this session: it begins later, or is gone", "UNKNOWN_INSTRUMENT"
    return [
        LineError(int(line), "instrument_ids", reason, f"{ids[line]!r} {text}")
        for line in np.flatnonzero(~known)
    ]


def _unestimated(
    ids: tuple[str, ...], parameters: EffectiveParameters, returns: ReturnData
) -> list[LineError]:
    """Lines without a column in the estimates, where the sizes are made of those."""
    matrix = returns.covariance
    if matrix is None or (
        parameters.method.engine is Engine.STAKES and parameters.penalty is CorrelationPenalty.NONE
    ):
        return []
    known, text = set(matrix.instrument_ids), "its returns can't be estimated yet"
    return [
        LineError(line, "instrument_ids", "NOT_IN_ESTIMATES", text)
        for line, name in enumerate(ids)
        if name not in known
    ]


def market_at(history: PriceHistory, t: int, lot_size: float) -> Market:
    """The market at the close of session t: those that have had a price and aren't delisted."""
    last = history.last_close[t]
    places = np.flatnonzero(~np.isnan(last))
    volatility = np.nan_to_num(history.daily_volatility[t][places]) * np.sqrt(SESSIONS_PER_YEAR)
    volume = history.average_daily_volume(t)
    return Market(
        instrument_ids=tuple(history.instrument_ids[place] for place in places),
        price=last[places],
        lot_size=np.full(len(places), lot_size),
        volatility=volatility,
        average_daily_volume=None if volume is None else volume[places],
        sector=tuple(history.sector[place] for place in places) if history.sector else (),
    )
