"""A problem without limits that one decision can't reach: where a book may go for now."""

from dataclasses import replace
from typing import Any

import numpy as np

from compute.inputs import Inputs
from compute.limits.book_guard import Rule
from compute.limits.policy import JointLimits, LimitKind
from compute.limits.projection import NO_LIMIT
from compute.waterfall.layout import Exposure

ROOM = 1e-8
"""Relative: a limit that holds a book where it is leaves this much, so that it has an inside."""


def without_limits_of_one_decision(inputs: Inputs) -> Inputs:
    """The same without turnover, sizes of trades and free capital.

    The way from the book held to an optimum of these is a straight line, along which every limit is
    exceeded less and less: the part of it that one decision may go is a step towards the limits.
    """
    limit_bounds = inputs.limit_bounds
    free = np.full_like(limit_bounds.buy_max, NO_LIMIT)
    limits = replace(limit_bounds.limits, turnover_max=None)
    return replace(
        inputs,
        limit_bounds=replace(
            limit_bounds, limits=limits, free=NO_LIMIT, buy_max=free, sell_max=free
        ),
    )


def with_limits_where_it_is(inputs: Inputs) -> Inputs:
    """The same with every limit on sums and on the whole book that is broken now held as it is.

    For an optimum from which the stages that follow go on by the limits as they are stated. A
    wealth floor that is broken is left out: they bring the book nearer to it.
    """
    limit_bounds, parameters = inputs.limit_bounds, inputs.parameters
    bounds, joint = limit_bounds.bounds.copy(), limit_bounds.limits.joint
    gross, net = bounds[Exposure.OTHER_GROSS], bounds[Exposure.OTHER_NET]
    bounds[Exposure.GROSS_MAX] = np.maximum(bounds[Exposure.GROSS_MAX], gross)
    bounds[Exposure.NET_MAX] = np.maximum(bounds[Exposure.NET_MAX], net)
    bounds[Exposure.NET_MIN] = np.minimum(bounds[Exposure.NET_MIN], net)
    book = inputs.book_guard
    for rule in book.rules if book else ():
        now = rule.measure(book.before)[0] + rule.pending if book else 0.0
        if now <= rule.bound:
            continue
        now += ROOM * abs(now)
        if rule.kind is LimitKind.RISK_BUDGET:
            parameters = replace(parameters, risk_budget=now)
        else:
            joint = held_at(joint, rule, now)
    limits = replace(limit_bounds.limits, joint=joint)
    return replace(
        inputs,
        limit_bounds=replace(limit_bounds, limits=limits, bounds=bounds),
        parameters=parameters,
    )


def held_at(joint: JointLimits, rule: Rule, now: float) -> JointLimits:
    """The limits with the one of a rule at its value now."""
    if rule.kind is LimitKind.DRAWDOWN_RISK:
        return replace(joint, wealth_floor=None, wealth_floor_probability=None)
    if rule.is_linear:
        rows = list(joint.linear)
        row = rows[rule.row]
        is_upper = rule.sign > 0.0
        rows[rule.row] = replace(row, upper=now) if is_upper else replace(row, lower=-now)
        return replace(joint, linear=tuple(rows))
    if rule.row >= 0:
        tails = list(joint.tails)
        place = rule.row - len(joint.linear)
        tails[place] = replace(tails[place], bound=now)
        return replace(joint, tails=tuple(tails))
    held: dict[str, Any] = {rule.kind.fields[0]: now}
    return replace(joint, **held)


def risk_name(rule: Rule) -> str:
    """What a limit on the risk of the whole book is called: its field, or the name of a tail.

    A wealth floor goes by what is measured of it, which is no wealth.
    """
    if rule.kind is LimitKind.DRAWDOWN_RISK:
        return "log E[W^-k] of wealth_floor"
    return rule.name if rule.row >= 0 else rule.kind.fields[0]
