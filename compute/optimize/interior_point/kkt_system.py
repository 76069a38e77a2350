"""The Newton system of the interior point, reduced to size n plus one row per coupling limit.

Every inequality is a slack c(x) >= 0 with x = (w, t, u), t >= |w - holdings|, u >= |w|. The
slacks live in one vector, in the order of `Parts`. t and u are eliminated by hand, so the matrix
factorised is n by n whatever the limits; rows, turnover, gross and nonlinear limits stay behind
as a small Schur complement.

    [ M  B' ] [ dw ]   [ rhs ]
    [ B  -E ] [ dy ] = [ -q  ]     M = H + barrier terms,  E = slack / dual of each row
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from compute.optimize.interior_point.blocked_cholesky import Factor, factor, lower, upper
from compute.optimize.interior_point.diagonal import diagonal, raised
from compute.optimize.interior_point.problem_data import Data, Terms

Array = jax.Array

PROXIMITY = 1e-13  # ridge relative to the Hessian: makes a linear program's M definite
LEVEL = 1e-6  # the same for a level, which has neither curvature nor bounds of its own
ABSENT = 1e100  # compliance of a row without bounds: it gives way to everything


class Parts(NamedTuple):
    """A vector over all inequalities, seen by family."""

    low: Array  # w - lower
    high: Array  # upper - w
    trade_up: Array  # t - (w - holdings)
    trade_down: Array  # t + (w - holdings)
    gross_up: Array  # u - w
    gross_down: Array  # u + w
    row_low: Array  # rows w - row_min
    row_high: Array  # row_max - rows w
    turnover: Array  # turnover - sum t
    gross: Array  # gross - sum u
    limits: Array  # -g(w)


class Point(NamedTuple):
    """Primal variables: weights, t (empty without trades), u (empty without gross)."""

    w: Array
    t: Array
    u: Array


def sizes(data: Data) -> tuple[int, ...]:
    """Length of each family of `Parts`, for one problem or a stack."""
    n, m = data.lower.shape[-1], data.rows.shape[-2]
    trades = n if data.kinked else 0
    gross = n if data.gross is not None else 0
    limits = sum(
        x is not None for x in (data.exponent, data.volatility, data.var, data.quadratic_exponent)
    )
    tail = (int(data.turnover is not None), int(data.gross is not None), limits)
    return (n, n, trades, trades, gross, gross, m, m, *tail)


def split(data: Data, vector: Array) -> Parts:
    """The families of a vector over all inequalities."""
    lengths = sizes(data)
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths) - 1)]
    return Parts._make(jnp.split(vector, ends))


def join(parts: Parts) -> Array:
    """One vector from its families."""
    return jnp.concatenate([x for x in parts if x.shape[0]])


def present(data: Data) -> Array:
    """1 where an inequality exists, 0 where its bound is infinite, fixed or an equality."""
    free, open_rows = data.upper > data.lower, ~equalities(data)
    traded, sized = kinks(data)
    bounds = (data.exponent, data.volatility, data.var, data.quadratic_exponent)
    limits = [jnp.isfinite(jnp.atleast_1d(bound)[-1]) for bound in bounds if bound is not None]
    masks = Parts(
        free & jnp.isfinite(data.lower),
        free & jnp.isfinite(data.upper),
        traded,
        traded,
        sized,
        sized,
        open_rows & jnp.isfinite(data.row_min),
        open_rows & jnp.isfinite(data.row_max),
        _EMPTY() if data.turnover is None else jnp.isfinite(data.turnover)[None],
        _EMPTY() if data.gross is None else jnp.isfinite(data.gross)[None],
        jnp.stack(limits) if limits else _EMPTY(),
    )
    return join(Parts(*(part.astype(jnp.float64) for part in masks)))


def kinks(data: Data) -> tuple[Array, Array]:
    """Names whose |w - holdings| and whose |w| matter, bool[n] each; empty without the family.

    A t that nothing prices and nothing bounds has no optimum: it stays where it is.
    """
    free = data.upper > data.lower
    if data.level is not None:
        free = free & (data.level == 0.0)
    traded = sized = jnp.zeros(0, bool)
    if data.kinked:
        traded = jnp.zeros_like(free)
        if data.cost is not None:
            traded = data.cost > 0.0
        if data.turnover is not None:
            traded = traded | jnp.isfinite(data.turnover)
        traded = traded & free
    if data.gross is not None:
        sized = free & jnp.isfinite(data.gross)
    return traded, sized


def equalities(data: Data) -> Array:
    """bool[m]: rows held exactly; soft ones never are."""
    equal = data.row_max <= data.row_min
    return equal if data.price is None else equal & jnp.isinf(data.price)


def slack(data: Data, x: Point, point: Terms) -> Array:
    """c(x), the value of every inequality (infinite where there is none)."""
    trade = data.trade(x.w) if data.kinked else x.t
    whole = x.w if data.gross is not None else x.u
    rows = data.rows @ x.w
    return join(
        Parts(
            x.w - data.lower,
            data.upper - x.w,
            x.t - trade,
            x.t + trade,
            x.u - whole,
            x.u + whole,
            rows - data.row_min,
            data.row_max - rows,
            jnp.atleast_1d(data.turnover - jnp.sum(x.t)) if data.turnover is not None else _EMPTY(),
            jnp.atleast_1d(data.gross - jnp.sum(x.u)) if data.gross is not None else _EMPTY(),
            -point.limits,
        )
    )


def slack_slope(data: Data, point: Terms, dx: Point) -> Parts:
    """J dx: the change of every slack along dx, by family."""
    trade = dx.w if data.kinked else dx.t
    whole = dx.w if data.gross is not None else dx.u
    rows = data.rows @ dx.w
    return Parts(
        dx.w,
        -dx.w,
        dx.t - trade,
        dx.t + trade,
        dx.u - whole,
        dx.u + whole,
        rows,
        -rows,
        jnp.atleast_1d(-jnp.sum(dx.t)) if data.turnover is not None else _EMPTY(),
        jnp.atleast_1d(-jnp.sum(dx.u)) if data.gross is not None else _EMPTY(),
        -(point.slopes @ dx.w),
    )


def jacobian_adjoint(data: Data, point: Terms, duals: Parts, equality: Array) -> Point:
    """J'z (with -rows'y of the equalities): what the duals add to the gradient."""
    net = duals.row_low - duals.row_high - equality
    w = duals.low - duals.high + net @ data.rows - duals.limits @ point.slopes
    t, u = duals.trade_up + duals.trade_down, duals.gross_up + duals.gross_down
    if data.kinked:
        w = w + duals.trade_down - duals.trade_up
    if data.turnover is not None:
        t = t - duals.turnover
    if data.gross is not None:
        w = w + duals.gross_down - duals.gross_up
        u = u - duals.gross
    return Point(w, t, u)


def _EMPTY() -> Array:
    return jnp.zeros(0)


class Barrier(NamedTuple):
    """A factorised Newton system, solved for several right-hand sides.

    weight: f64 dual / slack of every inequality, softened. own, couple: eliminated blocks of t
    and u, [own of t, couple of t, own of u, couple of u]. root: L of M = LL'.
    side: f64[n, r] = L^-1 B'. schur: Cholesky factor and scaling of the r by r complement.
    """

    weight: Array
    blocks: tuple[Array, Array, Array, Array]
    root: Factor
    side: Array
    schur: tuple[Factor, Array]


def row_compliance(data: Data, weight: Parts) -> Array:
    """E of every coupling row: 0 for equalities, ABSENT where there is no bound to couple."""
    both = weight.row_low + weight.row_high
    idle = both <= 0.0
    rows = jnp.where(equalities(data), 0.0, 1.0 / jnp.where(idle, 1.0 / ABSENT, both))
    single = jnp.concatenate([weight.turnover, weight.gross, weight.limits])
    single = jnp.where(single > 0.0, single, 1.0 / ABSENT)
    return jnp.concatenate([rows, 1.0 / single])


def _kink(up: Array, down: Array, fixed: Array) -> tuple[Array, Array, Array]:
    """Own and couple of one family of kinks, and what is left on the diagonal of M."""
    own = up + down + fixed
    return own, down - up, 4.0 * up * down / own


def factorise(data: Data, hess: Array, bend: Array, weight: Array, slopes: Array) -> Barrier:
    """Eliminate t and u, factorise M, form the Schur complement of the coupling rows.

    bend: f64[n] stiffness of the impact costs. slopes: f64[q, n] of the nonlinear limits.
    """
    parts = split(data, weight)
    free = (data.upper > data.lower).astype(jnp.float64)
    traded, sized = (kink.astype(jnp.float64) for kink in kinks(data))
    give = row_compliance(data, parts)
    stiff, rows, k = parts.low + parts.high + bend, [data.rows], data.rows.shape[0]
    t_own = t_couple = u_own = u_couple = _EMPTY()
    if data.kinked:
        t_own, t_couple, rest = _kink(parts.trade_up, parts.trade_down, 1.0 - traded)
        stiff = stiff + rest
    if data.turnover is not None:
        rows.append(-(t_couple / t_own)[None, :])
        give = give.at[k].add(jnp.sum(traded / t_own))
    if data.gross is not None:
        u_own, u_couple, rest = _kink(parts.gross_up, parts.gross_down, 1.0 - sized)
        stiff = stiff + rest
        rows.append(-(u_couple / u_own)[None, :])
        give = give.at[k + len(rows) - 2].add(jnp.sum(sized / u_own))
    rows.append(slopes)
    ridge = PROXIMITY * (1.0 + jnp.max(jnp.abs(diagonal(hess))))
    if data.level is not None:
        ridge = ridge + LEVEL * data.level
    matrix = hess * free[:, None] * free[None, :]
    root = factor(raised(matrix, jnp.where(free > 0.0, stiff + ridge, 1.0)))
    side = lower(root, (jnp.concatenate(rows) * free[None, :]).T)
    schur = raised(side.T @ side, give)
    size = jnp.sqrt(jnp.abs(diagonal(schur))) + 1e-150
    # The ridge keeps duplicate rows apart: their duals are then shared, not infinite.
    schur = raised(schur / size[:, None] / size[None, :], jnp.full_like(size, PROXIMITY))
    blocks = (t_own, t_couple, u_own, u_couple)
    return Barrier(weight, blocks, root, side, (factor(schur), size))


def solve_system(
    data: Data, system: Barrier, point: Terms, dual: Point, drive: Array, equality: Array
) -> tuple[Point, Array, Array, Array]:
    """dx, J dx, dz and the change f64[m] of the equality duals.

    Solves  H dx - J'dz = -dual,  dz = drive - weight J dx,  equality rows dx = -equality.
    Where a slack is nearly zero its weight is huge: J dx and dz are then taken from forms without
    cancellation, not from dx.
    """
    free = (data.upper > data.lower).astype(jnp.float64)
    traded, sized = (kink.astype(jnp.float64) for kink in kinks(data))
    parts, weight, m = split(data, drive), split(data, system.weight), data.rows.shape[0]
    back = jacobian_adjoint(data, point, _uncoupled(parts), jnp.zeros(m))
    rw, rt, ru = back.w - dual.w, back.t - dual.t, back.u - dual.u
    give = row_compliance(data, weight)
    single = jnp.concatenate([parts.turnover, parts.gross, parts.limits])
    q = jnp.concatenate([parts.row_high - parts.row_low, single]) * give
    q = q.at[:m].add(jnp.where(equalities(data), equality, 0.0))
    t_own, t_couple, u_own, u_couple = system.blocks
    gross_at = m + parts.turnover.shape[0]
    if data.kinked:
        rw = rw - t_couple * rt / t_own
    if data.turnover is not None:
        q = q.at[m].add(jnp.sum(traded * rt / t_own))
    if data.gross is not None:
        rw = rw - u_couple * ru / u_own
        q = q.at[gross_at].add(jnp.sum(sized * ru / u_own))
    dw, dy = _reduced(system, rw * free, q)
    dw = dw * free
    if data.turnover is not None:
        rt = rt - dy[m]
    moves = slack_slope(data, point, Point(dw, rt, ru))
    if data.kinked:
        rt, up, down = _unfold(weight.trade_up, weight.trade_down, rt * traded, dw, t_own)
        moves = moves._replace(trade_up=up, trade_down=down)
    if data.gross is not None:
        ru, up, down = _unfold(
            weight.gross_up, weight.gross_down, (ru - dy[gross_at]) * sized, dw, u_own
        )
        moves = moves._replace(gross_up=up, gross_down=down, gross=-jnp.sum(ru)[None])
    if data.turnover is not None:
        moves = moves._replace(turnover=-jnp.sum(rt)[None])
    duals = Parts(*(v - d * move for v, d, move in zip(parts, weight, moves, strict=True)))
    # The Schur complement knows the duals of rows to full precision: share them by weight.
    excess = dy[:m] - (parts.row_high - parts.row_low)
    k = gross_at + parts.gross.shape[0]
    duals = duals._replace(
        row_low=parts.row_low - weight.row_low * give[:m] * excess,
        row_high=parts.row_high + weight.row_high * give[:m] * excess,
        turnover=dy[m:gross_at],
        gross=dy[gross_at:k],
        limits=dy[k : k + parts.limits.shape[0]],
    )
    exact = jnp.where(equalities(data), dy[:m], 0.0)
    return Point(dw, rt, ru), join(moves), join(duals), exact


def _uncoupled(parts: Parts) -> Parts:
    """The families that are not rows of the Schur complement; zero elsewhere."""
    return parts._replace(
        row_low=0.0 * parts.row_low,
        row_high=0.0 * parts.row_high,
        turnover=0.0 * parts.turnover,
        gross=0.0 * parts.gross,
        limits=0.0 * parts.limits,
    )


def _reduced(system: Barrier, rhs: Array, q: Array) -> tuple[Array, Array]:
    """dw and dy of the factorised system."""
    half = lower(system.root, rhs[:, None])[:, 0]
    inner, size = system.schur
    goal = (half @ system.side + q) / size
    dy = upper(inner, lower(inner, goal[:, None]))[:, 0] / size
    return upper(system.root, (half - system.side @ dy)[:, None])[:, 0], dy


def _unfold(
    up: Array, down: Array, rest: Array, dw: Array, own: Array
) -> tuple[Array, Array, Array]:
    """dt, dt - dw and dt + dw of a family of kinks, own = up + down."""
    rise = (rest - 2.0 * down * dw) / own
    fall = (rest + 2.0 * up * dw) / own
    return 0.5 * (rise + fall), rise, fall
