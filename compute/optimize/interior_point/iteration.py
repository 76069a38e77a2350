"""Primal-dual interior point with Mehrotra's predictor and corrector, from an infeasible start.

Every inequality has a slack s and a dual z with s z driven to zero together with the residuals

    grad f - J'z = 0,    c(x) + e - s = 0,    equality rows = 0,

where e >= 0 is the violation of a soft row, whose dual is kept below its price: e (price - z) = 0.
The objective, and with it the duals, is divided by its own size (`objective_scale`), so that the
tolerance means the same for daily returns as for anything else.

The Sharpe ratio takes its steps over rays of books (`sharpe_step`).
"""

from __future__ import annotations

import jax.numpy as jnp

from compute.optimize.interior_point import impact
from compute.optimize.interior_point.kkt_system import (
    Array,
    Barrier,
    Point,
    equalities,
    factorise,
    jacobian_adjoint,
    kinks,
    slack,
    solve_system,
    split,
)
from compute.optimize.interior_point.lazy_hessian import Curvature
from compute.optimize.interior_point.problem_data import Data, Terms, other_hessian, terms
from compute.optimize.interior_point.sharpe_step import (
    along_ray,
    derivative,
    first_aversion,
    ray_of,
    right_side,
    settled,
)
from compute.optimize.interior_point.state import Frame, Residual, State, Step

LAG = 1e-4  # complementarity waits for residuals that are further behind than this
CAUTIOUS = 3e-2  # the same for a second attempt, where the first lost its way
STUCK = 0.1  # a predictor that can step no further than this is near a bound it has to leave
BEHIND = 1e-3  # share of its aim below which the product of a slack and its dual may not fall
TRUSTED = 5.0  # see `_trusted`
MU_MIN = 1e-14  # complementarity is never aimed below this: it would only cost digits


def start(data: Data, fixed: Frame) -> State:
    """A point inside the box near equal weights, slacks and duals on the central path's scale."""
    free = data.upper > data.lower
    share = 1.0 / jnp.maximum(jnp.sum(free), 1)
    width = jnp.minimum(0.5 * (data.upper - data.lower), share)
    # Not at zero, where the norms have their kink; a second attempt starts far from ruin.
    near = jnp.where(fixed.lag > LAG, 0.01, 1.0) * share
    if data.first is not None and data.crra is not None:
        near = jnp.where(data.crra[2] != 0.0, data.first, near)
    w = jnp.clip(near, data.lower + 0.5 * width, data.upper - 0.5 * width)
    t = u = jnp.zeros(0)
    if data.kinked:
        t = jnp.abs(data.trade(w)) + free * share
    if data.gross is not None:
        u = jnp.abs(w) + free * share
    if data.level is not None:
        t, u = (x * (1.0 - data.level) if x.shape[0] else x for x in (t, u))
    x = Point(w, t, u)
    aversion = jnp.ones(())
    if data.sharpe is not None:
        aversion = first_aversion(data, w)
    point = terms(data, w, fixed.scale, aversion)
    hard = fixed.mask > 0
    s = jnp.where(hard, jnp.maximum(slack(data, x, point), 0.01), 1.0)
    z = jnp.where(hard, jnp.minimum(0.1 * share / s, 0.5 * fixed.price), 0.0)
    e = q = jnp.zeros(0)
    if data.price is not None:
        soft = hard & jnp.isfinite(fixed.price)
        e = jnp.where(soft, 0.01, 0.0)
        q = jnp.where(soft, jnp.where(soft, fixed.price, 0.0) - z, 1.0)
    y, zero = jnp.zeros(data.rows.shape[0]), jnp.zeros(())
    roots = impact.first_roots(data, w, share)
    blank = Residual(point, x, s, y, roots, zero, zero)
    none = jnp.zeros((), jnp.int64)
    state = State(x, s, z, e, q, y, roots, aversion, none, blank, jnp.zeros(3))
    return judged(data, fixed, state)


def judged(data: Data, fixed: Frame, state: State) -> State:
    """The state with its KKT conditions evaluated."""
    kkt = residual(data, fixed, state)
    return state._replace(kkt=kkt, error=error(kkt))


def residual(data: Data, fixed: Frame, state: State) -> Residual:
    """Evaluate the KKT conditions."""
    x = state.x
    free = (data.upper > data.lower).astype(jnp.float64)
    point = terms(data, x.w, fixed.scale, state.aversion)
    back = jacobian_adjoint(data, point, split(data, state.z), state.y)
    t, u = -back.t, -back.u
    if data.cost is not None:
        t = t + fixed.scale * data.cost
    w = point.gradient - back.w
    if data.impact is not None:
        w = w + impact.price(data, fixed, state.roots)
    traded, sized = kinks(data)
    dual = Point(free * w, traded * t, sized * u)
    value = slack(data, x, point)
    total = jnp.sum(state.s * state.z)
    if data.price is not None:
        value = value + state.e
        total = total + jnp.sum(state.e * state.q)
    primal = jnp.where(fixed.mask > 0, value - state.s, 0.0)
    equality = jnp.where(equalities(data), data.rows @ x.w - data.row_max, 0.0)
    ray = jnp.zeros(())
    if data.sharpe is not None:
        ray = derivative(data, fixed, state, primal, equality)
    missed = impact.missing(data, x.w, state.roots)
    return Residual(point, dual, primal, equality, missed, ray, total / fixed.pairs)


def error(res: Residual) -> Array:
    """f64[3]: largest dual residual, largest primal residual, complementarity."""
    dual = jnp.max(jnp.abs(jnp.concatenate([*res.dual, res.ray[None]])))
    primal = jnp.max(jnp.abs(jnp.concatenate([res.primal, res.equality, res.missed])))
    return jnp.stack([dual, primal, res.mu])


def prepare(data: Data, fixed: Frame, state: State, res: Residual, kept: Curvature) -> Barrier:
    """Factorise the Newton system at a state."""
    give = jnp.zeros_like(state.s)
    if data.price is not None:
        give = state.e / state.q
    weight = state.z / (state.s + state.z * give)
    z = split(data, state.z)
    hess = other_hessian(data, state.x.w, state.aversion, z.limits)
    if data.returns is not None:
        hess = hess + kept.matrix
    hess = fixed.scale * hess
    bend = jnp.zeros_like(state.x.w)
    if data.impact is not None:
        bend = impact.stiffness(data, fixed, state)
    return factorise(data, hess, bend, weight, res.point.slopes)


def direction(
    data: Data,
    fixed: Frame,
    state: State,
    res: Residual,
    system: Barrier,
    goals: tuple[Array, Array],
) -> Step:
    """The Newton step with s dz + z ds = goals[0] and e dq + q de = goals[1], aversion fixed."""
    goal, soft_goal = goals
    push = res.primal
    give = soft_push = jnp.zeros_like(goal)
    if data.price is not None:
        give, soft_push = state.e / state.q, soft_goal / state.q
        push = push + soft_push
    full = state.s + state.z * give
    drive = (goal - state.z * push) / full
    dual = res.dual
    if data.impact is not None:
        dual = dual._replace(w=dual.w + impact.stiffness(data, fixed, state) * res.missed)
    dx, move, dz, dy = solve_system(data, system, res.point, dual, drive, res.equality)
    move, dz = fixed.mask * move, fixed.mask * dz
    de = soft_push + give * dz if data.price is not None else state.e
    ds = move + push + give * dz if data.price is not None else move + res.primal
    roots = impact.change(data, state, dx.w, res.missed)
    return Step(dx, ds, dz, de, dy, roots, jnp.zeros(()))


def longest(value: Array, change: Array) -> Array:
    """Largest step <= 1 that keeps value + step * change >= 0; value > 0."""
    return 1.0 / jnp.maximum(jnp.max(-change / value), 1.0)


def reach(data: Data, fixed: Frame, state: State, step: Step) -> Array:
    """Largest step <= 1 that keeps slacks, duals, violations and headrooms nonnegative."""
    z = jnp.where(fixed.mask > 0, state.z, 1.0)
    length = jnp.minimum(longest(state.s, step.s), longest(z, step.z))
    if data.sharpe is not None:
        length = jnp.minimum(length, longest(jnp.ones(()), step.ray))
    if data.price is not None:
        soft = jnp.isfinite(fixed.price) & (fixed.mask > 0)
        e = jnp.where(soft, state.e, 1.0)
        length = jnp.minimum(length, longest(e, jnp.where(soft, step.e, 0.0)))
        length = jnp.minimum(length, longest(state.q, jnp.where(soft, -step.z, 0.0)))
    return length


def advance(state: State, step: Step, length: Array) -> State:
    """state + length * step, before `settled`."""
    q = state.q
    if state.q.shape[0]:
        q = q - jnp.where(state.e > 0.0, length * step.z, 0.0)
    return state._replace(
        x=Point(*(a + length * b for a, b in zip(state.x, step.x, strict=True))),
        s=state.s + length * step.s,
        z=state.z + length * step.z,
        e=state.e + length * step.e,
        q=q,
        y=state.y + length * step.y,
        roots=state.roots + length * step.roots,
        iteration=state.iteration + 1,
    )


def iterate(data: Data, fixed: Frame, state: State, kept: Curvature) -> State:
    """One predictor-corrector iteration."""
    res = state.kkt
    system = prepare(data, fixed, state, res, kept)
    goal, soft_goal = -state.s * state.z, -state.e * state.q
    ray = None
    if data.sharpe is not None:
        aside = right_side(data, fixed, state)
        change = direction(data, fixed, state, aside, system, (goal, soft_goal))
        ray = ray_of(data, fixed, state, change)

    def towards(goals: tuple[Array, Array]) -> Step:
        step = direction(data, fixed, state, res, system, goals)
        return step if ray is None else along_ray(state, ray, step)

    guess = towards((goal, soft_goal))
    ahead_length = reach(data, fixed, state, guess)
    ahead = advance(state, guess, ahead_length)
    total = jnp.sum(ahead.s * ahead.z)
    if data.price is not None:
        total = total + jnp.sum(ahead.e * ahead.q)
    centring = jnp.clip(total / fixed.pairs / jnp.maximum(res.mu, 1e-300), 0.0, 1.0) ** 3
    behind = fixed.lag * jnp.maximum(state.error[0], state.error[1])
    aim = jnp.maximum(centring * res.mu, jnp.maximum(jnp.minimum(res.mu, behind), MU_MIN))
    # As much of the corrector as the predictor can step (Colombo and Gondzio 2008): all of it may
    # throw the iterate across a range for ever. Where it can hardly step, all of it, to get free.
    weight = jnp.where(ahead_length < STUCK, 1.0, ahead_length)
    goal = fixed.mask * (aim - weight * guess.s * guess.z) + goal
    if data.price is not None:
        soft = jnp.isfinite(fixed.price) & (fixed.mask > 0)
        soft_goal = soft * (aim + weight * guess.e * guess.z) + soft_goal
    step = towards((goal, soft_goal))
    length = reach(data, fixed, state, step) * jnp.maximum(0.99, 1.0 - res.mu)
    if data.returns is not None:
        assert res.point.wealth is not None
        left = jnp.maximum(res.point.wealth, 1e-3)
        length = jnp.minimum(
            length, 0.9 / jnp.maximum(jnp.max(-(step.x.w @ data.returns) / left), 0.9)
        )
    if data.crra is not None and data.first is not None:
        length = jnp.minimum(length, _trusted(data, res.point, step.x.w))
    after = advance(state, step, length)
    if ray is not None:
        after = settled(after, step, length)
    after = after._replace(roots=impact.kept_near(data, after.x.w, after.roots))
    return judged(data, fixed, centred(after, aim))


def _trusted(data: Data, point: Terms, move: Array) -> Array:
    """The largest step by which no chance of a tilted scenario changes by more than e^TRUSTED.

    Where one scenario has nearly all of it, a utility in logarithms is nearly flat along the
    others: a Newton step would lead far beyond where they take over. Without logarithms any.
    """
    assert data.returns is not None
    assert data.crra is not None
    assert point.wealth is not None
    tilt = data.crra[1] * (move @ data.returns) / point.wealth
    far = jnp.abs(data.crra[2]) * (jnp.max(tilt) - jnp.min(tilt))
    return TRUSTED / jnp.maximum(far, TRUSTED)


def centred(state: State, aim: Array) -> State:
    """The state with no product of slack and dual so far behind its aim that it blocks every step.

    The smaller of the two is raised: what this adds to a residual is of its size, and the next
    step takes it away.
    """
    low = BEHIND * aim
    s = jnp.maximum(state.s, low / jnp.maximum(state.z, state.s))
    z = jnp.where(state.z > 0.0, jnp.maximum(state.z, low / s), 0.0)
    q = state.q
    if q.shape[0]:
        q = jnp.where(state.e > 0.0, q - (z - state.z), q)
    return state._replace(s=s, z=z, q=q)
