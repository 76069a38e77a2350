"""The arrays of one problem as the kernel sees them, and the smooth functions on them.

    minimise  f(w) = -linear'w + 1/2 w'Qw - sum_t p_t phi(W_t) - b'log w
    W_t = 1 + x_t'w,   phi(W) = log_weight log W + crra_weight (W^(1 - rho) - 1) / (1 - rho)

    limits g(w) <= 0:   1/2 (w'Sw / v - v)                         volatility v
                        z sqrt(w'Sw) - mean'w - var_max            normal VaR
                        log sum_t p_t V_t^-lambda / lambda         Busseti, Ryu, Boyd 2016
                        (lambda + 1)/2 w'E[xx']w - mean'w          its quadratic form

V_t = W_t + shift'w is wealth without what the objective expects beyond the scenarios.

What a problem does not have is None, so that its kernel spends no time on it. The functions take
NumPy arrays as well: what is asked once, on the host, needs no compiling.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array

WEALTH_FLOOR = 1e-4  # below it, log is continued by its second-order expansion
VARIANCE_FLOOR = 1e-300


class Data(NamedTuple):
    """One padded problem. A variable with lower == upper is fixed; padding is fixed at 0.

    unit: what a weight of 1 is worth in natural weights. finer: a factor of the objective beyond
    its own size, 1 where that says how it is at the optimum. screened: 1 if the host has looked at
    the limits, 0 to have doubts about them said (`screening`). lower, upper, linear: f64[n].
    quad: f64[n, n], Q.
    returns: f64[n, T], x; prob: f64[T]; growth: log weight; crra: f64[3] = CRRA weight, rho, and 1
    where its utility is in logarithms, log(sum_t p_t W_t^(1 - rho)) / (1 - rho); -1 where it is as
    it is and starts from `first`.
    rows: f64[m, n] with row_min, row_max; row_scale: f64[m], what each was divided by;
    price: f64[m] of their violation;
    price_tail: price of violating turnover, gross and the nonlinear limits (phase one only).
    mean: f64[n], cov: f64[n, n], S, of the caps; volatility: v; var: f64[2] = z, var_max.
    exponent: f64[2] = lambda, right-hand side; floor_shift: f64[n] = shift; quadratic_exponent: the
    same for the quadratic form; second: f64[n, n] = E[xx'], second_mean: f64[n] = E[x].
    holdings, cost, impact: f64[n]; turnover, gross: maxima; budgets: f64[n] = b.
    first: f64[n], where the iteration starts if crra[2] is not 0; without it no utility is in
    logarithms.
    level: f64[n], 1 for a variable that is no weight (`epigraph`).
    sharpe: present where the objective is (linear'w - costs) / sqrt(w'Qw).
    """

    lower: Array
    upper: Array
    linear: Array
    rows: Array
    row_min: Array
    row_max: Array
    row_scale: Array
    unit: Array
    finer: Array
    screened: Array
    quad: Array | None = None
    returns: Array | None = None
    prob: Array | None = None
    growth: Array | None = None
    crra: Array | None = None
    price: Array | None = None
    price_tail: Array | None = None
    mean: Array | None = None
    cov: Array | None = None
    volatility: Array | None = None
    var: Array | None = None
    exponent: Array | None = None
    floor_shift: Array | None = None
    quadratic_exponent: Array | None = None
    second: Array | None = None
    second_mean: Array | None = None
    holdings: Array | None = None
    cost: Array | None = None
    impact: Array | None = None
    turnover: Array | None = None
    gross: Array | None = None
    budgets: Array | None = None
    sharpe: Array | None = None
    first: Array | None = None
    level: Array | None = None

    @property
    def kinked(self) -> bool:
        """True if |w - holdings| matters; impact costs alone have no kink."""
        return self.cost is not None or self.turnover is not None

    def trade(self, weights: Array) -> Array:
        """w - holdings, f64[n]."""
        assert self.holdings is not None
        return weights - self.holdings


AXES = dict.fromkeys(Data._fields, 1)
AXES |= dict.fromkeys(("rows", "quad", "returns", "cov", "second"), 2)
AXES |= dict.fromkeys(
    (
        "unit",
        "finer",
        "screened",
        "growth",
        "price_tail",
        "volatility",
        "turnover",
        "gross",
        "sharpe",
    ),
    0,
)
"""How many axes each field of one problem has."""


def shape_of(data: Data) -> tuple[int, int]:
    """How many names and rows it has room for."""
    return data.lower.shape[-1], data.rows.shape[-2]


def spread(data: Data, batch: int) -> Data:
    """A stack whose every field has the leading axis, those that its problems share too."""
    fields: dict[str, Any] = {
        name: np.broadcast_to(x, (batch, *np.shape(x))) if np.ndim(x) == AXES[name] else x
        for name, x in data._asdict().items()
        if x is not None
    }
    return Data(**fields)


class Terms(NamedTuple):
    """The smooth part at a point.

    gradient: f64[n] of f; limits: f64[q] = g(w); slopes: f64[q, n] their gradients;
    wealth: f64[T]; floor_wealth: f64[T], V; tilt: the exponential weights of the drawdown-risk
    limit, f64[T].
    """

    gradient: Array
    limits: Array
    slopes: Array
    wealth: Array | None
    floor_wealth: Array | None
    tilt: Array | None


def log_wealth(wealth: Array) -> tuple[Array, Array, Array]:
    """log W, its first and its second derivative; continued smoothly below WEALTH_FLOOR."""
    xp = wealth.__array_namespace__()
    inside = xp.maximum(wealth, WEALTH_FLOOR)
    inverse = 1.0 / inside
    below = wealth * inverse - 1.0  # zero wherever log is not continued, up to rounding
    below = xp.where(wealth < WEALTH_FLOOR, below, 0.0)
    value = xp.log(inside) + below - 0.5 * below * below
    return value, inverse * (1.0 - below), -inverse * inverse


def growth_slopes(data: Data, wealth: Array) -> tuple[Array, Array]:
    """phi'(W) and phi''(W), f64[T] each, continued linearly in slope below the floor."""
    xp = wealth.__array_namespace__()
    inside = xp.maximum(wealth, WEALTH_FLOOR)
    inverse = 1.0 / inside
    first, second = xp.zeros_like(wealth), xp.zeros_like(wealth)
    if data.growth is not None:
        first = first + data.growth * inverse
        second = second - data.growth * inverse * inverse
    if data.crra is not None:
        rise = xp.log(inside)
        assert data.prob is not None
        exponent = -data.crra[1] * rise
        if data.first is not None:
            exponent = exponent - utility_level(data, rise)
        # What has no chance may be beyond doubles, and is not to become a NaN.
        power = data.crra[0] * xp.exp(xp.where(data.prob > 0, exponent, 0.0))
        first = first + power
        second = second - data.crra[1] * power * inverse
    return first + second * (wealth - inside), second


def utility_level(data: Data, rise: Array) -> Array:
    """log sum_t p_t W_t^(1 - rho) where the utility is in logarithms, else 0; rise: log W, f64[T].

    As the power of the best wealth comes out first, no utility is beyond doubles.
    """
    assert data.crra is not None
    assert data.prob is not None
    xp = rise.__array_namespace__()
    exponent = (1.0 - data.crra[1]) * rise
    top = xp.max(xp.where(data.prob > 0, exponent, -xp.inf))
    level = top + xp.log(xp.sum(data.prob * xp.exp(xp.minimum(exponent - top, 0.0))))
    out: Array = xp.where(data.crra[2] > 0.0, level, 0.0)
    return out


def terms(data: Data, weights: Array, scale: Array, aversion: Array) -> Terms:
    """Gradient of scale * f and the limits, all times `scale`, with `aversion` times Q for Q."""
    xp = weights.__array_namespace__()
    gradient = -scale * data.linear
    wealth = floor_wealth = tilt = None
    limits: list[Array] = []
    slopes: list[Array] = []
    if data.returns is not None:
        wealth = 1.0 + weights @ data.returns
    if data.growth is not None or data.crra is not None:
        assert data.returns is not None
        assert data.prob is not None
        assert wealth is not None
        by_scenario = data.prob * growth_slopes(data, wealth)[0]
        gradient = gradient - scale * (data.returns @ by_scenario)
    if data.exponent is not None:
        assert data.returns is not None
        assert data.prob is not None
        assert wealth is not None
        floor_wealth = wealth if data.floor_shift is None else wealth + weights @ data.floor_shift
        value, slope, _ = log_wealth(floor_wealth)
        level = -(data.exponent[0] * value)
        top = xp.max(xp.where(data.prob > 0, level, -xp.inf))
        tilt = data.prob * xp.exp(level - top)
        total = xp.sum(tilt)
        tilt = tilt / total
        limits.append((top + xp.log(total)) / data.exponent[0] - data.exponent[1])
        by_scenario = tilt * slope
        slopes.append(-(data.returns @ by_scenario))
        if data.floor_shift is not None:
            slopes[-1] = slopes[-1] - data.floor_shift * xp.sum(by_scenario)
    if data.quad is not None:
        gradient = gradient + scale * aversion * (data.quad @ weights)
    if data.budgets is not None:
        gradient = gradient - scale * data.budgets / xp.where(data.budgets > 0, weights, 1.0)
    _norm_limits(data, weights, limits, slopes)
    count = len(limits)
    values = scale * xp.stack(limits) if count else xp.zeros(0)
    matrix = scale * xp.stack(slopes) if count else xp.zeros((0, weights.shape[0]))
    return Terms(gradient, values, matrix, wealth, floor_wealth, tilt)


def _norm_limits(data: Data, weights: Array, limits: list[Array], slopes: list[Array]) -> None:
    """Append the quadratic limits and their gradients."""
    xp = weights.__array_namespace__()
    if data.cov is not None:
        product = data.cov @ weights
        variance = weights @ product
        if data.volatility is not None:
            limits.append(0.5 * (variance / data.volatility - data.volatility))
            slopes.append(product / data.volatility)
        if data.var is not None:
            assert data.mean is not None
            sigma = xp.sqrt(xp.maximum(variance, VARIANCE_FLOOR))
            limits.append(data.var[0] * sigma - data.mean @ weights - data.var[1])
            slopes.append(data.var[0] * product / sigma - data.mean)
    if data.quadratic_exponent is not None:
        assert data.second is not None
        assert data.second_mean is not None
        factor = data.quadratic_exponent[0] + 1.0
        product = data.second @ weights
        value = 0.5 * factor * (weights @ product) - data.second_mean @ weights
        limits.append(value - data.quadratic_exponent[1])
        slopes.append(factor * product - data.second_mean)


def hessian(
    data: Data, weights: Array, point: Terms, duals: Array, scale: Array, aversion: Array
) -> Array:
    """scale * (Hessian of f + sum_j duals_j Hessian of g_j), f64[n, n]."""
    total = other_hessian(data, weights, aversion, duals)
    if data.returns is not None:
        curve = scenario_curve(data, point, duals)
        total = total + scenario_hessian(data, point, duals, scale, curve)
    return scale * total


def scenario_curve(data: Data, point: Terms, duals: Array) -> Array:
    """f64[T], how much each scenario adds to the Hessian, per square of its returns."""
    assert data.prob is not None
    assert point.wealth is not None
    xp = point.wealth.__array_namespace__()
    curve = xp.zeros_like(point.wealth)
    if data.growth is not None or data.crra is not None:
        curve = -(data.prob * growth_slopes(data, point.wealth)[1])
    if data.exponent is not None:
        curve = curve + floor_curve(data, point, duals)
    return curve


def floor_curve(data: Data, point: Terms, duals: Array) -> Array:
    """The part of that which the drawdown-risk limit adds, f64[T]."""
    assert data.exponent is not None
    assert point.floor_wealth is not None
    assert point.tilt is not None
    _, slope, bend = log_wealth(point.floor_wealth)
    out: Array = duals[0] * point.tilt * (data.exponent[0] * slope * slope - bend)
    return out


def scenario_hessian(data: Data, point: Terms, duals: Array, scale: Array, curve: Array) -> Array:
    """What the scenarios add to the Hessian, f64[n, n]: by far the most work of an iteration."""
    assert data.returns is not None
    if data.crra is None or data.first is None:
        total = (data.returns * curve[None, :]) @ data.returns.T
    else:
        total = _tilted_hessian(data, point, duals, curve)
    if data.exponent is not None:
        flat = point.slopes[0] / scale
        total = total - (duals[0] * data.exponent[0]) * flat[:, None] * flat[None, :]
        if data.floor_shift is not None:
            # (X + s1') diag(c) (X + s1')' without the first term, which is in the curve.
            part = floor_curve(data, point, duals)
            xp = part.__array_namespace__()
            crossed = (data.returns @ part)[:, None] * data.floor_shift[None, :]
            square = data.floor_shift[:, None] * data.floor_shift[None, :]
            total = total + crossed + crossed.T + xp.sum(part) * square
    return total


def _tilted_hessian(data: Data, point: Terms, duals: Array, curve: Array) -> Array:
    """sum_t curve_t x_t x_t', less (rho - 1) g g' of a utility in logarithms, f64[n, n].

    g = sum_t q_t x_t / W_t with the tilted chances q_t. With a = 1 - rho^(-1/2)

        rho sum_t q_t y_t y_t' - (rho - 1) g g' = rho sum_t q_t (y_t - a g) (y_t - a g)',

    y_t = x_t / W_t: a sum of squares, where a difference would be rounding at large rho.
    """
    assert data.returns is not None
    assert data.prob is not None
    assert data.crra is not None
    assert point.wealth is not None
    xp = point.wealth.__array_namespace__()
    share = xp.maximum(data.crra[2], 0.0) * (1.0 - 1.0 / xp.sqrt(xp.maximum(data.crra[1], 1.0)))
    mean = share * (data.returns @ (data.prob * growth_slopes(data, point.wealth)[0]))
    moved = data.returns - mean[:, None] * point.wealth[None, :]
    total = (moved * curve[None, :]) @ moved.T
    if data.exponent is not None:
        # The drawdown-risk limit's part is of the returns as they are.
        part = floor_curve(data, point, duals) * point.wealth
        crossed = (data.returns @ part)[:, None] * mean[None, :]
        square = mean[:, None] * mean[None, :]
        total = total + crossed + crossed.T - xp.sum(part * point.wealth) * square
    return total


def other_hessian(data: Data, weights: Array, aversion: Array, duals: Array) -> Array:
    """The Hessian without what the scenarios add, f64[n, n]."""
    xp = weights.__array_namespace__()
    n = weights.shape[0]
    total = xp.zeros((n, n))
    j = int(data.exponent is not None)
    if data.quad is not None:
        total = total + aversion * data.quad
    if data.budgets is not None:
        total = total + xp.diag(data.budgets / xp.where(data.budgets > 0, weights, 1.0) ** 2)
    if data.cov is not None:
        product = data.cov @ weights
        if data.volatility is not None:
            total = total + (duals[j] / data.volatility) * data.cov
            j += 1
        if data.var is not None:
            sigma = xp.sqrt(xp.maximum(weights @ product, VARIANCE_FLOOR))
            flat = product / sigma
            total = total + (duals[j] * data.var[0] / sigma) * (data.cov - xp.outer(flat, flat))
            j += 1
    if data.quadratic_exponent is not None:
        assert data.second is not None
        total = total + (duals[j] * (data.quadratic_exponent[0] + 1.0)) * data.second
    return total
