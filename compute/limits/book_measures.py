"""Risk of a whole book in plain NumPy: the value of each measure and its slope at a book.

With weights w (n,) as fractions of equity, scenario returns R (K, n) of probability p (K,), and
x = R w the returns of the book:

    volatility   sqrt(sum p (x - p'x)^2 / (1 - sum p^2)), or sqrt(w'Sw) of a covariance S
    VaR          z volatility - p'x, z the normal quantile of the level; of S: z volatility
    CVaR         mean of the worst 1 - level of the losses -x (Rockafellar and Uryasev 2002)
    CDaR         the same of the drawdowns max(0, C_1, ..., C_t) - C_t, C_t = x_1 + ... + x_t in the
                 order of the scenarios (Chekhlov, Uryasev, Zabarankin 2005)
    wealth floor log sum p W^-k, W = 1 + r (1 - sum |w|) + x, k = log probability / log floor; at
                 most 0 where P(wealth ever falls to the floor) <= probability (Busseti, Ryu, Boyd
                 2016); the proceeds of short sales earn nothing

Each is convex in w. Written for the check of final lots: nothing is shared with the optimizer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, sqrt
from statistics import NormalDist

import numpy as np

from compute.market import Floats

RUIN = 1e30
"""Scale of the wealth floor's measure where a scenario takes all wealth."""

Measured = tuple[float, Floats]
"""The value at a book, and its slope by each weight, (n,)."""

Measure = Callable[[Floats], Measured]


@dataclass(frozen=True)
class ScenarioReturns:
    """Returns (K, n) of the instruments of a book, and the probability (K,) of each scenario."""

    returns: Floats
    probability: Floats

    def volatility(self, weights: Floats) -> Measured:
        """Standard deviation of the book's return."""
        centred = self.returns @ weights
        centred = centred - self.probability @ centred
        divisor = 1.0 - float(self.probability @ self.probability)
        by_scenario = self.probability * centred / divisor
        value = sqrt(max(float(by_scenario @ centred), 0.0))
        slope = by_scenario @ self.returns - float(by_scenario.sum()) * self.mean
        return value, slope / value if value > 0.0 else np.zeros_like(slope)

    @property
    def mean(self) -> Floats:
        """Mean return of each instrument, (n,)."""
        mean: Floats = self.probability @ self.returns
        return mean

    def value_at_risk(self, level: float) -> Measure:
        """Normal value at risk, a positive fraction of equity."""
        quantile, mean = NormalDist().inv_cdf(level), self.mean

        def measure(weights: Floats) -> Measured:
            value, slope = self.volatility(weights)
            return quantile * value - float(mean @ weights), quantile * slope - mean

        return measure

    def conditional_value_at_risk(self, level: float) -> Measure:
        """Mean loss of the worst 1 - level of the scenarios."""

        def measure(weights: Floats) -> Measured:
            losses = -(self.returns @ weights)
            share = _worst(losses, self.probability, 1.0 - level)
            return float(share @ losses), -(share @ self.returns)

        return measure

    def conditional_drawdown(self, level: float) -> Measure:
        """Mean of the worst 1 - level of the drawdowns along the scenarios, uncompounded."""

        def measure(weights: Floats) -> Measured:
            path = np.concatenate([[0.0], np.cumsum(self.returns @ weights)])
            peak = np.maximum.accumulate(path)
            depth = (peak - path)[1:]
            share = _worst(depth, self.probability, 1.0 - level)
            # A drawdown takes in the returns after its peak, up to its own period.
            reached = np.where(path == peak, np.arange(len(path)), 0)
            since = np.maximum.accumulate(reached)[1:]
            edges = np.zeros(len(path) + 1)
            np.add.at(edges, since, share)
            np.add.at(edges, np.arange(1, len(path)), -share)
            taken = np.cumsum(edges)[: len(share)]
            return float(share @ depth), -(taken @ self.returns)

        return measure

    def floor_moment(self, floor: float, probability: float, cash_return: float) -> Measure:
        """log E[W^-k]; `RUIN` and more where a scenario takes all wealth."""
        power = log(probability) / log(floor)

        def measure(weights: Floats) -> Measured:
            cash = cash_return * (1.0 - float(np.abs(weights).sum()))
            idle = cash_return * np.sign(weights)  # what a longer position takes from cash
            wealth = 1.0 + cash + self.returns @ weights
            if not (wealth > 0.0).all():
                worst = int(np.argmin(wealth))  # finite, so that less ruin still is less
                slope = RUIN * (idle - self.returns[worst])
                return RUIN * (1.0 - float(wealth[worst])), slope
            terms = np.log(self.probability) - power * np.log(wealth)
            top = float(terms.max())
            share = np.exp(terms - top)
            total = float(share.sum())
            by_scenario = power * share / total / wealth
            return top + log(total), idle * float(by_scenario.sum()) - by_scenario @ self.returns

        return measure


@dataclass(frozen=True)
class Covariance:
    """Covariance (n, n) of the instruments of a book; their mean returns are taken as 0."""

    values: Floats

    def volatility(self, weights: Floats) -> Measured:
        """Standard deviation of the book's return."""
        product = self.values @ weights
        value = sqrt(max(float(weights @ product), 0.0))
        return value, product / value if value > 0.0 else np.zeros_like(product)

    def value_at_risk(self, level: float) -> Measure:
        """Normal value at risk, a positive fraction of equity."""
        quantile = NormalDist().inv_cdf(level)

        def measure(weights: Floats) -> Measured:
            value, slope = self.volatility(weights)
            return quantile * value, quantile * slope

        return measure


def _worst(losses: Floats, probability: Floats, mass: float) -> Floats:
    """Shares (K,), in all 1, of the worst `mass` of probability; the last loss taken in part."""
    order = np.argsort(-losses, kind="stable")
    sorted_mass = probability[order]
    earlier = np.cumsum(sorted_mass) - sorted_mass
    share = np.zeros_like(losses)
    share[order] = np.clip(mass - earlier, 0.0, sorted_mass)
    total = float(share.sum())
    if total <= 0.0:  # a level so near to 1 that no mass is left: the worst loss alone
        share[order[0]] = total = 1.0
    return share / total
