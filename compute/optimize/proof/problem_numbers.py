"""The numbers of a `Problem` as the proof reads them: its defaults filled in, in plain NumPy.

No solver code is used here: it is the proof's own reading.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from compute.optimize.problem import FactorCovariance, Problem

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ProblemData:
    """The defaults of a `Problem` filled in: mean, covariance, probabilities, holdings, box.

    log_unit: the logarithm of what utilities and their slopes are counted in, 0 for themselves.
    """

    problem: Problem
    log_unit: float = 0.0

    @cached_property
    def size(self) -> int:
        """Number of assets n."""
        return self.problem.size

    @cached_property
    def scenarios(self) -> Matrix:
        """Simple returns [T, n]; a ValueError where the problem has none and needs them."""
        if self.problem.scenarios is None:
            raise ValueError("scenarios: the objective or a limit needs them, and there are none")
        return np.asarray(self.problem.scenarios, dtype=np.float64)

    @cached_property
    def probability(self) -> Vector:
        """Scenario probabilities [T], uniform if unset."""
        if self.problem.scenario_probability is not None:
            return np.asarray(self.problem.scenario_probability, dtype=np.float64)
        count = len(self.scenarios)
        return np.full(count, 1.0 / count)

    @cached_property
    def mean(self) -> Vector:
        """Expected simple return a period [n]: as given, else p'scenarios, else zero."""
        if self.problem.mean is not None:
            return np.asarray(self.problem.mean, dtype=np.float64)
        if self.problem.scenarios is not None:
            return np.asarray(self.probability @ self.scenarios)
        return np.zeros(self.size)

    @cached_property
    def excess(self) -> Vector:
        """The mean that is expected, less what financing takes [n]."""
        return self.mean - self.problem.objective_rates

    @cached_property
    def holdings(self) -> Vector:
        """Current weights [n], all cash if unset."""
        held = self.problem.holdings
        return np.zeros(self.size) if held is None else np.asarray(held, dtype=np.float64)

    @cached_property
    def excess_moment(self) -> Matrix:
        """E[x x'] [n, n] of x = r + views - financing."""
        rates = self.problem.objective_rates
        mean = self.mean
        if self.problem.scenarios is not None:
            mean = self.probability @ self.scenarios
        crossed = np.outer(mean, rates)
        return np.asarray(self.second_moment - crossed - crossed.T + np.outer(rates, rates))

    @cached_property
    def second_moment(self) -> Matrix:
        """E[r r'] [n, n]: of the scenarios, else covariance + mean mean'."""
        if self.problem.scenarios is not None:
            return np.asarray((self.scenarios * self.probability[:, None]).T @ self.scenarios)
        return self.covariance + np.outer(self.mean, self.mean)

    @cached_property
    def covariance(self) -> Matrix:
        """Covariance [n, n]: as given, from factors, else of the scenarios (ddof 1)."""
        given = self.problem.covariance
        if isinstance(given, FactorCovariance):
            return given.dense()
        if given is not None:
            return np.asarray(given, dtype=np.float64)
        if self.problem.scenarios is None:
            raise ValueError("covariance: the objective or a limit needs one, or scenarios")
        centred = self.scenarios - self.probability @ self.scenarios
        divisor = 1.0 - float(self.probability @ self.probability)
        if not divisor > 0.0:
            raise ValueError("covariance: one scenario has none, and the problem states none")
        return np.asarray((centred * self.probability[:, None]).T @ centred / divisor)

    @cached_property
    def lower(self) -> Vector:
        """Lower bounds [n] of the box and of the trade cap together; -inf where free."""
        limits = self.problem.limits
        box = np.full(self.size, -np.inf) if limits.lower is None else limits.lower
        return (
            box if limits.trade_max is None else np.maximum(box, self.holdings - limits.trade_max)
        )

    @cached_property
    def upper(self) -> Vector:
        """Upper bounds [n] of the box and of the trade cap together; inf where free."""
        limits = self.problem.limits
        box = np.full(self.size, np.inf) if limits.upper is None else limits.upper
        return (
            box if limits.trade_max is None else np.minimum(box, self.holdings + limits.trade_max)
        )

    def volatility(self, weights: Vector) -> float:
        """sqrt(w'Sw)."""
        return math.sqrt(max(float(weights @ self.covariance @ weights), 0.0))

    def wealth(self, weights: Vector) -> Vector:
        """W_t = 1 + cash_return + (r_t + views - financing)'w [T], as the objective expects it."""
        cash = self.problem.cash_return - float(self.problem.objective_rates @ weights)
        return np.asarray(1.0 + cash + self.scenarios @ weights)

    def floor_wealth(self, weights: Vector) -> Vector:
        """The same without views [T], of which the drawdown-risk limit is."""
        cash = self.problem.cash_return - float(self.problem.financing_rates @ weights)
        return np.asarray(1.0 + cash + self.scenarios @ weights)

    def costs(self, weights: Vector) -> float:
        """linear'|w - holdings| + impact'|w - holdings|^(3/2), in fractions of equity."""
        traded, total = np.abs(weights - self.holdings), 0.0
        if self.problem.costs.linear is not None:
            total += float(self.problem.costs.linear @ traded)
        if self.problem.costs.impact is not None:
            total += float(self.problem.costs.impact @ traded**1.5)
        return total
