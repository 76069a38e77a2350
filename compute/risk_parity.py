"""The method RISK_PARITY: the lines of a batch share the risk budget in equal parts.

With D the sides, S the covariance of the lines' returns and s their annual volatilities,

    w = k D x,   x_i (D S D x)_i equal for all i,   k sum_i x_i s_i = what is left of the budget

so that every line contributes the same risk; without a covariance every line has the same
standalone risk |w_i| s_i. The edge plays no part but for the side. Equal contributions are the
minimum of x'D S D x / 2 - sum log x_i, found one coordinate after another (Griveau-Billion, Richard
and Roncalli 2013).
"""

from typing import TYPE_CHECKING

import numpy as np

from compute.limits.risk_budget import risk_budget_of_batch
from compute.market import Floats, Integers, MissingInputError

if TYPE_CHECKING:
    from compute.inputs import Inputs

SWEEPS_MAX = 10_000
TOLERANCE = 1e-10
"""Of each line's part of the risk, relative to an equal one."""


def risk_parity_weights(inputs: "Inputs") -> Floats:
    """Signed weights of the lines, (n,), 0 of lines that are not active.

    Raises `MissingInputError` without a risk budget or volatilities, and for a covariance that has
    no column of a line or leaves no risk to share.
    """
    market, weights = inputs.limit_bounds.market, np.zeros(len(inputs.index))
    if inputs.parameters.risk_budget is None:
        text = "method RISK_PARITY shares the parameter risk_budget, which is not set"
        raise MissingInputError("MISSING_RISK_BUDGET", text)
    if market.volatility is None:
        text = "method RISK_PARITY needs the column volatility in the market snapshot"
        raise MissingInputError("MISSING_VOLATILITY", text)
    lines = np.flatnonzero(inputs.active)
    if not len(lines):
        return weights
    side, volatility = inputs.signals.side[lines], market.volatility[inputs.index[lines]]
    share = 1.0 / volatility
    if inputs.returns.covariance is not None:
        covariance = covariance_of(inputs, inputs.index[lines], "RISK_PARITY")
        share = equal_risk(covariance * np.outer(side, side))
    weights[lines] = side * share * (risk_budget_of_batch(inputs) / float(share @ volatility))
    return weights


def equal_risk(covariance: Floats) -> Floats:
    """x > 0, (n,), with x_i (S x)_i = 1 for all i, from S (n, n).

    Raises `MissingInputError` where there is none: some book of these sides has no risk.
    """
    scale = np.sqrt(np.diag(covariance))
    if (scale > 0.0).all():
        correlation = covariance / np.outer(scale, scale)
        x = np.full(len(scale), 1.0 / np.sqrt(len(scale)))
        for _ in range(SWEEPS_MAX):
            for i in range(len(x)):
                others = float(correlation[i] @ x) - x[i]
                x[i] = 0.5 * (np.sqrt(others * others + 4.0) - others)
            if np.abs(x * (correlation @ x) - 1.0).max() <= TOLERANCE:
                return np.asarray(x / scale)
    text = "the covariance leaves the lines of these sides no risk to share in equal parts"
    raise MissingInputError("SINGULAR_COVARIANCE", text)


def covariance_of(inputs: "Inputs", places: Integers, method: str) -> Floats:
    """The covariance that is named, of the instruments at these places, (n, n).

    Raises `MissingInputError` where there is none, or no column of an instrument.
    """
    book = inputs.returns.covariance
    if book is None:
        text = (
            f"method {method} needs a covariance: name one by covariance_matrix_id, or a "
            "covariance_universe in the sizing parameters"
        )
        raise MissingInputError("MISSING_MATRIX", text)
    column = book.place
    names = [inputs.limit_bounds.market.instrument_ids[i] for i in places]
    for name in names:
        if name not in column:
            text = f"method {method} needs {name!r} in the covariance"
            raise MissingInputError("MISSING_COVARIANCE", text)
    columns = [column[name] for name in names]
    return np.asarray(book.values[np.ix_(columns, columns)])
