"""Outcomes of a batch with bets, drawn together with everything else that is sized or held."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compute.inputs import Inputs
from compute.joint.expected import ageing_change, edge_left, expected_means
from compute.joint.outcomes import (
    INDEPENDENT,
    SAMPLED,
    UNATTAINABLE,
    Bets,
    Drawn,
    drawn_together,
    outcomes,
)
from compute.joint.returns import BookMatrix, Returns
from compute.joint.tail_cuts import normal_cap
from compute.limits.policy import LimitKind
from compute.market import Floats, Integers
from compute.optimize.problem import ObjectiveKind
from compute.waterfall.layout import Family, Line, is_of

# A chance nearer to 0 or 1 is that.
SURE = 1e-9
# Objectives that read the covariance themselves: that of the outcomes.
_OF_VARIANCE = frozenset(
    {
        ObjectiveKind.MEAN_VARIANCE,
        ObjectiveKind.MIN_VARIANCE,
        ObjectiveKind.MAX_SHARPE,
        ObjectiveKind.MAX_DIVERSIFICATION,
        ObjectiveKind.QUADRATIC_GROWTH,
        ObjectiveKind.COMBINATION,
    }
)
_ON_SCENARIOS = frozenset({LimitKind.CVAR_MAX, LimitKind.CDAR_MAX, LimitKind.DRAWDOWN_RISK})
_ON_COVARIANCE = frozenset({LimitKind.VOLATILITY_MAX, LimitKind.VAR_MAX})
LEFT_OUT = "holdings without a column in the matrix were taken as riskless beside the bets: "


@dataclass(frozen=True)
class Drawing:
    """A batch with bets: variables of four sorts, drawn together.

    matrix: where correlations come from, scenarios if `exact`; None: everything is independent.
    """

    inputs: Inputs
    lines: Integers
    everything: Integers
    edges: Floats
    matrix: BookMatrix | None
    exact: bool

    def returns(self, financing: Floats, scenarios_max: int) -> Returns:
        """Scenarios of every variable."""
        bet, named = self._is_bet(), self._named()
        rest = np.flatnonzero(~bet & (named | self._has_mean()))
        bets, side = self._bets(np.flatnonzero(bet)), self.inputs.signals.side[self.lines]
        order = np.concatenate([np.flatnonzero(bet), rest])
        sign = np.concatenate([side[bet[: len(side)]], np.ones(len(rest))])
        correlation = self._correlation(order) * np.outer(sign, sign)
        drawn = drawn_together(bets, correlation, len(rest), scenarios_max)
        out = np.tile(financing, (len(drawn.probability), 1))
        out[:, bet] += self._unit() * side[bet[: len(side)]] * outcomes(bets, drawn)
        out[:, rest] = self._continuous(rest, drawn.normal, drawn.probability)
        # What never happens is no scenario, so that a sure bet risks nothing.
        never = (bets.win >= 1.0 - SURE) & (drawn.wins == 0.0)
        never |= (bets.win <= SURE) & (drawn.wins > 0.0)
        kept = (drawn.probability > 0.0) & ~never.any(axis=1)
        out, probability = out[kept], drawn.probability[kept] / drawn.probability[kept].sum()
        return Returns(
            scenarios=out,
            probability=probability,
            covariance=self._drawn_covariance(out, probability),
            notes=self._notes(bet, rest, drawn),
        )

    def _drawn_covariance(self, out: Floats, probability: Floats) -> Floats | None:
        """Covariance of the outcomes, which are all there are and no sample; None: nobody asks."""
        if not self._is_of_variance():
            return None
        centred = out - probability @ out
        covariance: Floats = (centred.T * probability) @ centred
        return covariance

    def measured(self, found: Returns) -> Returns:
        """With means and covariance of the matrix, where the risk of the book is limited.

        Limits measure what the matrix says of the instruments, and not what a bet on them pays.
        """
        joint, unmeasured = self.inputs.limit_bounds.limits.joint, _ON_SCENARIOS
        least, _ = normal_cap(joint.volatility_max, joint.tails)
        if self._is_of_variance():
            return replace(found, unmeasured=unmeasured | _ON_COVARIANCE)
        if (least is None and joint.var_max is None) or not self._named().all():
            return replace(found, unmeasured=unmeasured)
        assert self.matrix is not None, "it knows every variable"
        assert found.scenarios is not None, "drawn"
        assert found.probability is not None, "drawn"
        columns = self.matrix.place[self.everything]
        mean = np.zeros(len(columns))
        if self.exact:
            mean = self.matrix.probability @ self.matrix.values[:, columns]
        views = found.probability @ found.scenarios - mean
        kept = 1.0 - float(self.matrix.probability @ self.matrix.probability)
        covariance = self._covariance(np.arange(len(columns))) / (kept if self.exact else 1.0)
        return replace(
            found,
            scenarios=found.scenarios - views,
            covariance=covariance,
            views=views,
            unmeasured=unmeasured,
        )

    def _unit(self) -> float:
        """What bets are paid in, as they are net of the rate: wealth at it, where that is read."""
        named = self.inputs.parameters.joint_objective
        on_wealth = named is None or named.kind in (ObjectiveKind.LOG_GROWTH, ObjectiveKind.CRRA)
        return 1.0 + self.inputs.parameters.risk_free_rate if on_wealth else 1.0

    def _is_of_variance(self) -> bool:
        """Whether the objective reads the covariance of the outcomes."""
        named = self.inputs.parameters.joint_objective
        return named is not None and named.kind in _OF_VARIANCE

    def _is_bet(self) -> NDArray[np.bool_]:
        out = np.zeros(len(self.everything), dtype=bool)
        source = self.inputs.signals.source[self.lines]
        out[: len(self.lines)] = is_of(source, Family.BET)
        return out

    def _has_mean(self) -> NDArray[np.bool_]:
        out = np.zeros(len(self.everything), dtype=bool)
        source = self.inputs.signals.source[self.lines]
        out[: len(self.lines)] = is_of(source, Family.MOMENTS)
        return out

    def _named(self) -> NDArray[np.bool_]:
        """The variables that the matrix knows."""
        if self.matrix is None:
            return np.zeros(len(self.everything), dtype=bool)
        return np.asarray(self.matrix.place[self.everything] >= 0)

    def _bets(self, places: Integers) -> Bets:
        """The bets of these lines; their chances are shrunk towards fair for what is uncertain."""
        lines, rows = self.lines[places], self.edges
        p, gain, loss = (
            rows[row, lines] for row in (Line.WIN_PROBABILITY, Line.PAYOFF, Line.LOSS_FRACTION)
        )
        error = np.sqrt(
            ((gain + loss) * rows[Line.EDGE_ERROR, lines]) ** 2
            + (p * rows[Line.PAYOFF_ERROR, lines]) ** 2
            + ((1.0 - p) * rows[Line.LOSS_FRACTION_ERROR, lines]) ** 2
        )
        fair = loss / (gain + loss)
        share = edge_left(self.inputs, lines, (gain + loss) * (p - fair), error)
        return Bets(np.clip(fair + share * (p - fair), SURE, 1.0 - SURE), gain, loss)

    def _covariance(self, places: Integers) -> Floats:
        """Covariance of the variables that the matrix knows, (c, c)."""
        assert self.matrix is not None
        columns = self.matrix.place[self.everything[places]]
        if not self.exact:
            return self.matrix.values[np.ix_(columns, columns)]
        centred = self.matrix.values[:, columns]
        centred = centred - self.matrix.probability @ centred
        out: Floats = (centred.T * self.matrix.probability) @ centred
        return out

    def _correlation(self, order: Integers) -> Floats:
        """Correlation of the variables in this order; of what the matrix doesn't know none."""
        out, known = np.eye(len(order)), np.flatnonzero(self._named()[order])
        if len(known):
            covariance = self._covariance(order[known])
            size = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
            size = np.where(size > 0.0, size, 1.0)
            out[np.ix_(known, known)] = np.clip(covariance / np.outer(size, size), -1.0, 1.0)
        np.fill_diagonal(out, 1.0)
        return out

    def _continuous(self, rest: Integers, normal: Floats, probability: Floats) -> Floats:
        """Returns (T, c) with the mean and the spread that each of these variables should have."""
        if not len(rest):
            return normal
        mean, spread = np.zeros(len(rest)), np.zeros(len(rest))
        named, is_line = self._named()[rest], self._has_mean()[rest]
        if named.any():
            spread[named] = np.sqrt(np.diagonal(self._covariance(rest[named])))
        returns = normal.copy()
        if self.matrix is not None and self.exact:
            columns = self.matrix.values[:, self.matrix.place[self.everything[rest[named]]]]
            mean[named] = self.matrix.probability @ columns
            returns[:, named] = _ranked(columns, self.matrix.probability, normal[:, named])
            aged = np.flatnonzero(named & ~is_line & (rest < len(self.lines)))
            mean[aged] += ageing_change(self.inputs, self.lines[rest[aged]], mean[aged])
        if is_line.any():
            lines = self.lines[rest[is_line]]
            mean[is_line] = expected_means(self.inputs, lines)
            given = self.inputs.signals.volatility
            assert given is not None, "expected returns come with a volatility"
            spread[is_line] = np.where(named[is_line], spread[is_line], given[lines])
        centred = returns - probability @ returns
        size = np.sqrt(probability @ centred**2)
        out: Floats = mean + centred * np.where(size > 0.0, spread / np.where(size > 0, size, 1), 0)
        return out

    def _notes(self, bet: NDArray[np.bool_], rest: Integers, drawn: Drawn) -> tuple[str, ...]:
        notes = [] if self._named()[bet].all() else [INDEPENDENT]
        notes += [] if drawn.attained else [UNATTAINABLE]
        if drawn.is_sample:
            rows, bets = len(drawn.probability), int(bet.sum())
            notes.append(SAMPLED.format(bets=bets, rows=rows, off=round(drawn.off, 6)))
        left = np.setdiff1d(np.flatnonzero(~bet), rest)
        names = [
            self.inputs.limit_bounds.market.instrument_ids[self.everything[place]] for place in left
        ]
        if names:
            notes.append(LEFT_OUT + ", ".join(names[:5]) + (", ..." if len(names) > 5 else ""))
        return tuple(notes)


def _ranked(columns: Floats, probability: Floats, normal: Floats) -> Floats:
    """Values of each column at the ranks of `normal`, (T, c): its distribution, in their order."""
    from_rank = np.empty_like(normal)
    for column in range(columns.shape[1]):
        order = np.argsort(columns[:, column], kind="stable")
        level = np.cumsum(probability[order])
        rank = (np.argsort(np.argsort(normal[:, column])) + 0.5) / len(normal)
        place = np.minimum(np.searchsorted(level, rank), len(order) - 1)
        from_rank[:, column] = columns[order[place], column]
    return from_rank
