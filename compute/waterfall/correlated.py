"""By what the stakes of a batch are multiplied because they and the book share risk."""

import numpy as np

from compute.correlation.penalty import CorrelationPenalty, Gram, penalty_factors
from compute.inputs import Inputs
from compute.limits.book_guard import ReturnMatrix
from compute.market import Floats, Integers, MissingInputError
from compute.waterfall.layout import Family, Line, is_of


def is_correlated(inputs: Inputs) -> bool:
    """Whether the stakes of a batch are sized together by the closed form."""
    return inputs.target is None and inputs.parameters.penalty is not CorrelationPenalty.NONE


def correlation_factors(inputs: Inputs, lines: Floats, alone: Floats) -> Floats:
    """Factors in [0, 1] of the lines, (n,), from their stakes alone, signed (n,).

    lines: the kernel's input (len(Line), n). Everything held outside the batch counts too. Raises
    `MissingInputError` without a covariance, and where a line with a stake, or a holding, is not in
    it.
    """
    factors = np.ones(len(alone))
    book = inputs.returns.covariance
    if book is None:
        raise MissingInputError(
            "MISSING_MATRIX",
            "correlation_penalty needs a covariance: name one by covariance_matrix_id, or a "
            "covariance_universe in the sizing parameters",
        )
    some = np.flatnonzero((alone != 0.0) & inputs.active)
    if not len(some):
        return factors
    inside = inputs.index[some]
    before = inputs.limit_bounds.before
    outside = np.setdiff1d(np.flatnonzero(before), inputs.index[inputs.active])
    columns = _columns(book, inputs, np.concatenate([inside, outside]))
    covariance, n = book.part(columns), len(some)
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    side = np.sign(alone[some])
    scale, ratio = _own_risk(lines[:, some], deviation[:n])
    gram = Gram(covariance[:n, :n], side, ratio)
    by_deviation = np.divide(side, deviation[:n], out=np.zeros(n), where=deviation[:n] > 0.0)
    held = by_deviation * (covariance[:n, n:] @ before[outside])
    stakes, penalty = np.abs(alone[some]), inputs.parameters.penalty
    factors[some] = penalty_factors(stakes, scale, gram, held, penalty)
    return factors


def _columns(book: ReturnMatrix, inputs: Inputs, places: Integers) -> Integers:
    """The column of each instrument, by its place in the market."""
    column, names = book.place, inputs.limit_bounds.market.instrument_ids
    found = [column.get(names[place], -1) for place in places.tolist()]
    columns = np.array(found, dtype=np.int64)
    missing = np.flatnonzero(columns < 0)
    if len(missing):
        name = inputs.limit_bounds.market.instrument_ids[int(places[missing[0]])]
        raise MissingInputError(
            "MISSING_COVARIANCE",
            f"the correlation penalty needs {name!r} in the covariance; estimate one with it, name "
            "another by covariance_matrix_id, or set correlation_penalty NONE",
        )
    return columns


def _own_risk(lines: Floats, deviation: Floats) -> tuple[Floats, Floats]:
    """Scale k and mean over deviation r of each line, (n,) each (`correlation/penalty.py`)."""
    source = lines[Line.SOURCE]
    is_bet = is_of(source, Family.BET)
    cost = lines[Line.COST]
    win, payoff = lines[Line.WIN_PROBABILITY], lines[Line.PAYOFF] - cost
    loss = lines[Line.LOSS_FRACTION] + cost
    bet_scale = np.sqrt(np.maximum(payoff * loss, 0.0))
    spread = np.sqrt(np.maximum(win * (1.0 - win), 0.0)) * (payoff + loss)
    mean = win * payoff - (1.0 - win) * loss
    bet_ratio = np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 0.0)
    own = np.where(is_of(source, Family.MOMENTS), lines[Line.VOLATILITY], deviation)
    scale = np.where(is_bet, bet_scale, own)
    # What has no risk of its own shares none: any scale leaves it as it is.
    return np.where(scale > 0.0, scale, 1.0), np.where(is_bet, bet_ratio, 0.0)
