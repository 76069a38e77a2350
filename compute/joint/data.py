"""What the joint problem knows of the returns: scenarios, or means and a covariance.

    scenarios    the columns of the matrix as they are, which every limit is measured on; what the
                 signals expect beyond their means counts in the objective alone (`views`)
    covariance   that of the matrix, about a mean of 0; what the signals expect is views as well
    bets         outcomes of all lines drawn together (`joint/draws.py`); beside bets a line with
                 an expected return is normal, one with scenarios has the ranks of its column;
                 limits are not measured on them: on the covariance of the matrix, or by cuts

Everything is the return of the instrument, so that of a short position with its sign turned.
"""

import numpy as np

from compute.inputs import Inputs
from compute.joint.draws import Drawing
from compute.joint.expected import expected_means, views_of
from compute.joint.returns import BookMatrix, Returns
from compute.market import Floats, Integers, MissingInputError
from compute.waterfall.layout import Family, is_of

UNLIKE = 0.1
"""A volatility further from the matrix's, as a share of that, is worth a note."""
UNREAD = "risks are those of the matrix, and not the volatility that the signal gives: "


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
        drawing = Drawing(inputs, lines, everything, edges, matrix, scenarios is not None)
        return drawing.measured(drawing.returns(financing, scenarios_max))
    if scenarios is not None:
        _require(scenarios, inputs, everything, "scenario")
        returns = scenarios.values[:, scenarios.place[everything]]
        chance = scenarios.probability
        views = views_of(chance @ returns, inputs, lines)
        own = returns[:, : len(lines)] - (chance @ returns)[: len(lines)]
        kept = 1.0 - float(chance @ chance)
        notes = _unread(inputs, lines, (chance @ own**2) / kept) if kept > 0.0 else ()
        return Returns(scenarios=returns, probability=chance, views=views, notes=notes)
    if covariance is None:
        raise MissingInputError(
            "MISSING_MATRIX", "the joint method needs scenario_matrix_id or covariance_matrix_id"
        )
    _require(covariance, inputs, everything, "covariance")
    place = covariance.place[everything]
    mean, views = np.zeros(len(everything)), np.zeros(len(everything))
    views[: len(lines)] = expected_means(inputs, lines)
    values = covariance.values[np.ix_(place, place)]
    notes = _unread(inputs, lines, np.diagonal(values)[: len(lines)])
    return Returns(mean=mean, covariance=values, views=views, notes=notes)


def _unread(inputs: Inputs, lines: Integers, variance: Floats) -> tuple[str, ...]:
    """A note where the volatility of a signal is clearly not that of the matrix, (k,)."""
    given, index = inputs.signals.volatility, inputs.index[lines]
    if given is None:
        return ()
    of_matrix = np.sqrt(np.maximum(variance, 0.0))
    off = is_of(inputs.signals.source[lines], Family.MOMENTS)
    off = off & (np.abs(given[lines] - of_matrix) > UNLIKE * of_matrix)
    ids = inputs.limit_bounds.market.instrument_ids
    told = [
        f"{ids[index[k]]} ({given[lines][k]:.4g}, not {of_matrix[k]:.4g})"
        for k in np.flatnonzero(off)
    ]
    return (UNREAD + ", ".join(told[:5]) + (", ..." if len(told) > 5 else ""),) if told else ()


def _require(matrix: BookMatrix, inputs: Inputs, places: Integers, what: str) -> None:
    missing = places[matrix.place[places] < 0]
    if len(missing):
        name = inputs.limit_bounds.market.instrument_ids[int(missing[0])]
        raise MissingInputError(
            "MISSING_MATRIX_ENTRY", f"{name!r} is sized or held, but not in the {what} matrix"
        )
