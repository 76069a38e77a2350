"""What one decision depends on, in arrays: the input of the pipeline and of what explains it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from compute.limits.binding import Binding
from compute.limits.book_guard import NO_DATA, BookGuard, ReturnData, rules_of
from compute.limits.bounds import LimitBounds
from compute.limits.policy import JointLimits
from compute.lot_search import LotSearch
from compute.market import Floats, Integers
from compute.methods import Method
from compute.parameters import EffectiveParameters
from compute.signals import Signals
from compute.waterfall.edge_inputs import Scenarios

TURNED = 1e-6
"""Of equity: turnover of which less is left is used up."""


@dataclass(frozen=True)
class Inputs:
    """All that a decision depends on.

    index: each line's instrument in the market, (n,), 0 where it isn't `known`. active: false for
    refused lines, unknown instruments among them.
    target: signed weights of the joint optimum, or None for the closed form; with it what cut it
    there (`target_binding`) and the slope of its objective along each line (`target_marginal`).
    returns: what limits of the whole book are measured with. placeless: lines that are to be
    without a position (`limits/places.py`), (n,), None where there are places for all.
    robust: in the joint method, what the worst case leaves of each line's edge (`robust.py`), (n,).
    method: how they are sized. lot_search: what a search for whole lots found, which a replay has.
    floor_held: log E[W^-k] that a wealth floor out of reach is held to (`joint/nearest_risk.py`).
    fees_count: False of decisions from before the fees of the market were a cost of the edge.
    """

    signals: Signals
    index: Integers
    active: NDArray[np.bool_]
    known: NDArray[np.bool_]
    limit_bounds: LimitBounds
    parameters: EffectiveParameters
    reducing: bool = False
    scenarios: Scenarios | None = None
    target: Floats | None = None
    target_binding: Binding | None = None
    target_marginal: Floats | None = None
    returns: ReturnData = NO_DATA
    placeless: NDArray[np.bool_] | None = None
    fees_count: bool = True
    robust: Floats | None = None
    method: Method = Method.CLOSED_FORM
    lot_search: LotSearch | None = None
    floor_held: float = 0.0

    def __getstate__(self) -> dict[str, object]:
        """What another process needs; it makes its own `book_guard`."""
        return {name: value for name, value in vars(self).items() if name != "book_guard"}

    @cached_property
    def book_guard(self) -> BookGuard | None:
        """What checks the limits of the whole book, None where there are none.

        Raises `MissingInputError` where one needs data that the request doesn't bring.
        """
        limit_bounds, budget = self.limit_bounds, self.parameters.risk_budget
        if limit_bounds.is_closing or (
            limit_bounds.limits.joint == JointLimits() and budget is None
        ):
            return None
        rules = rules_of(
            limit_bounds.market,
            limit_bounds.positions,
            limit_bounds.limits,
            self.index[self.active],
            self.returns,
            cash_return=self.parameters.risk_free_rate,
            risk_budget=budget,
            floor_held=self.floor_held,
        )
        return BookGuard(limit_bounds.market, limit_bounds.positions, rules) if rules else None

    @property
    def stays(self) -> Floats:
        """What a joint optimum leaves of what its lines hold, signed weights (n,); 0 for others.

        Such a position may stay beyond a limit of its line where limits on sums leave no way for
        it, or it is against its signal and the optimum goes no further (`joint/reach.py`,
        `joint/stay.py`).
        """
        before = self.limit_bounds.before[self.index]
        if self.target is None or self.target_marginal is None:
            return np.zeros(len(before))
        is_less = (self.target * before > 0.0) & (np.abs(self.target) <= np.abs(before))
        turnover_max = self.limit_bounds.limits.turnover_max
        used = float(np.abs(self.target - before)[self.active].sum())
        if turnover_max is not None and turnover_max - used <= TURNED:
            # Lines beyond limits of their own share what turnover there is, lot by lot.
            most, least = self.limit_bounds.most[self.index], self.limit_bounds.least[self.index]
            is_less &= (before >= least) & (before <= most)
        return np.where(is_less, self.target, 0.0)

    @property
    def must_reduce(self) -> bool:
        """Whether positions may only go towards zero: by the trading state, or without equity."""
        return self.reducing or self.limit_bounds.is_closing
