"""What the joint problem knows of the returns: scenarios, or means and a covariance.

    scenarios    the columns of the matrix as they are, which every limit is measured on; what the
                 signals expect beyond their means counts in the objective alone (`views`)
    covariance   that of the matrix, with the means of the signals; holdings beside them have none
    bets         outcomes of all lines drawn together (`joint_outcomes.py`); beside bets a line with
                 an expected return is normal, one with scenarios has the ranks of its column

Everything is the return of the instrument, so that of a short position with its sign turned.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compute.adapt.edge import scaled_mean_change
from compute.inputs import Inputs
from compute.joint_outcomes import (
    INDEPENDENT,
    UNATTAINABLE,
    Bets,
    drawn_together,
    outcomes,
)
from compute.layout import Family, Line, is_of
from compute.market import Floats, Integers, MissingInputError
from compute.optimize.problem import ObjectiveKind
from compute.parameters import Shrinkage

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
LEFT_OUT = "holdings without a column in the matrix were taken as riskless beside the bets: "


@dataclass(frozen=True)
class BookMatrix:
    """A matrix and where the market's instruments are in it.

    values: scenarios (K, c) with probability (K,), or a covariance (c, c). place: (m,), the column
    of each instrument of the market, -1 where it has none.
    """

    values: Floats
    probability: Floats
    place: Integers


@dataclass(frozen=True)
class Returns:
    """Scenarios (T, v) with probability (T,), or mean (v,) and covariance (v, v), and notes.

    views: (v,) what is expected of each return beyond its mean in the scenarios. It is a matter of
    the objective: a signal that expects more makes no risk smaller.
    """

    scenarios: Floats | None = None
    probability: Floats | None = None
    mean: Floats | None = None
    covariance: Floats | None = None
    views: Floats | None = None
    notes: tuple[str, ...] = ()


def has_bets(inputs: Inputs) -> bool:
    """Whether any line is a bet or a history."""
    source = inputs.signals.source[inputs.active]
    return bool(is_of(source, Family.BET).any())


def returns_of(
    inputs: Inputs,
    lines: Integers,
    everything: Integers,
    financing: Floats,
    matrices: tuple[BookMatrix | None, BookMatrix | None],
    edges: Floats | None,
    scenarios_max: int,
) -> Returns:
    """What is known of the returns of `everything` (v,), the instruments of `lines` first.

    financing: (v,), what each return has to beat, which bets are net of. matrices: scenarios and
    covariance; the covariance is used without scenarios only. edges: rows of `layout.Line`, where
    the batch has bets.
    Raises `MissingInputError` where a line or a holding has no data.
    """
    scenarios, covariance = matrices
    if edges is not None:
        matrix = scenarios or covariance
        drawing = _Drawing(inputs, lines, everything, edges, matrix, scenarios is not None)
        return drawing.measured(drawing.returns(financing, scenarios_max))
    if scenarios is not None:
        _require(scenarios, inputs, everything, "scenario")
        returns = scenarios.values[:, scenarios.place[everything]]
        views = _views(scenarios.probability @ returns, inputs, lines)
        return Returns(scenarios=returns, probability=scenarios.probability, views=views)
    if covariance is None:
        raise MissingInputError(
            "MISSING_MATRIX", "the joint method needs scenario_matrix_id or covariance_matrix_id"
        )
    _require(covariance, inputs, everything, "covariance")
    place = covariance.place[everything]
    mean = np.zeros(len(everything))
    mean[: len(lines)] = _means(inputs, lines)
    return Returns(mean=mean, covariance=covariance.values[np.ix_(place, place)])


def _require(matrix: BookMatrix, inputs: Inputs, places: Integers, what: str) -> None:
    missing = places[matrix.place[places] < 0]
    if len(missing):
        name = inputs.limit_bounds.market.instrument_ids[int(missing[0])]
        raise MissingInputError(
            "MISSING_MATRIX_ENTRY", f"{name!r} is sized or held, but not in the {what} matrix"
        )


def _means(inputs: Inputs, lines: Integers) -> Floats:
    """Expected returns of holding the instrument, shrunk as the stake would be, (k,)."""
    signals, parameters = inputs.signals, inputs.parameters
    if (
        signals.expected_return is None
        or not is_of(inputs.signals.source[lines], Family.MOMENTS).all()
    ):
        raise MissingInputError(
            "MISSING_MATRIX", "lines with edge_source SCENARIOS need a scenario_matrix_id"
        )
    excess = signals.expected_return[lines] - parameters.risk_free_rate
    error = signals.expected_return_error
    factor = _shrunk(inputs, lines, excess, np.zeros(len(lines)) if error is None else error[lines])
    means: Floats = signals.side[lines] * (factor * excess + parameters.risk_free_rate)
    return means


def _shrunk(inputs: Inputs, lines: Integers, edge: Floats, error: Floats) -> Floats:
    """The share of an edge that is left of its uncertainty, (k,).

    edge^2 / (edge^2 + error^2), times what its worst case leaves.
    """
    worst = np.ones(len(lines)) if inputs.robust is None else inputs.robust[lines]
    if inputs.parameters.confidence_shrinkage is Shrinkage.NONE:
        return worst
    total = edge**2 + error**2
    factor: Floats = np.where(total > 0, edge**2 / np.where(total > 0, total, 1.0), 1.0)
    if inputs.signals.confidence is not None:
        factor = factor * inputs.signals.confidence[lines]
    return factor * worst


def _views(mean: Floats, inputs: Inputs, lines: Integers) -> Floats:
    """What the signals expect beyond the means (v,) of the scenarios, the lines first; others 0."""
    views = np.zeros_like(mean)
    columns = np.flatnonzero(is_of(inputs.signals.source[lines], Family.MOMENTS))
    if len(columns):
        views[columns] = _means(inputs, lines[columns]) - mean[columns]
    aged = np.flatnonzero(is_of(inputs.signals.source[lines], Family.SCENARIOS))
    views[aged] = _ageing(inputs, lines[aged], mean[aged])
    return views


def _ageing(inputs: Inputs, lines: Integers, mean: Floats) -> Floats:
    """What age and worst case of their edges take off the means (k,) of lines with scenarios."""
    side, parameters = inputs.signals.side[lines], inputs.parameters
    left = parameters.edge_multiplier * (1.0 if inputs.robust is None else inputs.robust[lines])
    if inputs.signals.history_multiplier is not None:
        left = left * inputs.signals.history_multiplier[lines]
    return scaled_mean_change(mean, side, parameters.risk_free_rate, left)


@dataclass(frozen=True)
class _Drawing:
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
        out[:, bet] += side[bet[: len(side)]] * outcomes(bets, drawn)
        out[:, rest] = self._continuous(rest, drawn.normal, drawn.probability)
        kept = drawn.probability > 0.0
        out, probability = out[kept], drawn.probability[kept] / drawn.probability[kept].sum()
        return Returns(
            scenarios=out,
            probability=probability,
            covariance=self._drawn_covariance(out, probability),
            notes=self._notes(bet, rest, attained=drawn.attained),
        )

    def _drawn_covariance(self, out: Floats, probability: Floats) -> Floats | None:
        """Covariance of the outcomes, which are all there are and no sample; None: nobody asks."""
        joint, named = self.inputs.limit_bounds.limits.joint, self.inputs.parameters.joint_objective
        of_objective = named is not None and named.kind in _OF_VARIANCE
        if not of_objective and joint.volatility_max is None and joint.var_max is None:
            return None
        centred = out - probability @ out
        covariance: Floats = (centred.T * probability) @ centred
        return covariance

    def measured(self, found: Returns) -> Returns:
        """With means and covariance of the matrix, where the risk of the book is limited.

        Limits measure what the matrix says of the instruments, and not what a bet on them pays.
        """
        joint, named = self.inputs.limit_bounds.limits.joint, self.inputs.parameters.joint_objective
        on_covariance = joint.volatility_max is not None or joint.var_max is not None
        on_tails = joint.cvar_max is not None or joint.cdar_max is not None
        if not (on_covariance or on_tails) or not self._named().all():
            return found
        assert self.matrix is not None, "it knows every variable"
        assert found.scenarios is not None, "drawn"
        assert found.probability is not None, "drawn"
        columns = self.matrix.place[self.everything]
        mean = np.zeros(len(columns))
        if self.exact:
            mean = self.matrix.probability @ self.matrix.values[:, columns]
        views = found.probability @ found.scenarios - mean
        covariance = found.covariance
        if on_covariance and (named is None or named.kind not in _OF_VARIANCE):
            kept = 1.0 - float(self.matrix.probability @ self.matrix.probability)
            covariance = self._covariance(np.arange(len(columns))) / (kept if self.exact else 1.0)
        moved = found.scenarios - views
        return replace(found, scenarios=moved, covariance=covariance, views=views)

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
        share = _shrunk(self.inputs, lines, (gain + loss) * (p - fair), error)
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
            mean[aged] += _ageing(self.inputs, self.lines[rest[aged]], mean[aged])
        if is_line.any():
            lines = self.lines[rest[is_line]]
            mean[is_line] = _means(self.inputs, lines)
            given = self.inputs.signals.volatility
            assert given is not None, "expected returns come with a volatility"
            spread[is_line] = np.where(named[is_line], spread[is_line], given[lines])
        centred = returns - probability @ returns
        size = np.sqrt(probability @ centred**2)
        out: Floats = mean + centred * np.where(size > 0.0, spread / np.where(size > 0, size, 1), 0)
        return out

    def _notes(self, bet: NDArray[np.bool_], rest: Integers, *, attained: bool) -> tuple[str, ...]:
        notes = [] if self._named()[bet].all() else [INDEPENDENT]
        notes += [] if attained else [UNATTAINABLE]
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
