"""The search for whole lots of a joint optimum in a decision, used where it keeps more limits or
is worth more.

It is recorded with the decision, so that a replay needs no search and no clock.
"""

from dataclasses import replace

import numpy as np

from compute.inputs import Inputs
from compute.joint.lots import LotComparison, search_lots
from compute.joint.sizing import JointAnswer
from compute.joint.value import ROUNDING, joint_objective
from compute.limits.bindings import ROUNDING as UNMOVED
from compute.limits.remaining import exceeded
from compute.lot_search import LotSearch
from compute.market import Floats
from compute.optimize.execution import Runner
from compute.optimize.time_limit import TimeLimit
from compute.parameters import LotChoice
from compute.shapes import KernelRegistry
from compute.waterfall.layout import Stage
from compute.waterfall.pipeline import Sizing, run_pipeline
from compute.waterfall.stages import GRID

ELSEWHERE = "limits, cash or the guard moved the lots that were found"


def searched(runner: Runner, inputs: Inputs, answer: JointAnswer, time_limit: TimeLimit) -> Inputs:
    """The inputs with what a search found, where one is asked for; a replay has it already."""
    is_asked = inputs.parameters.lot_choice is LotChoice.SEARCHED
    if not is_asked or inputs.lot_search is not None:
        return inputs
    try:
        found = runner.run(search_lots, inputs, answer, time_limit=time_limit)
    except runner.errors as error:  # rounding needs no search
        found = LotSearch(note=str(error))
    return replace(inputs, lot_search=found)


def with_found_lots(inputs: Inputs, answer: JointAnswer) -> Inputs | None:
    """The inputs with the lots that were found as their target; None where none were."""
    search = inputs.lot_search
    if search is None or search.weight is None:
        return None
    assert answer.cuts is not None, "weights come with what cut them"
    return replace(
        inputs,
        target=search.weight,
        target_binding=answer.cuts.binding,
        target_marginal=answer.cuts.marginal,
    )


def better(
    inputs: Inputs,
    found: Inputs | None,
    answer: JointAnswer,
    rounded: Sizing,
    kernels: KernelRegistry,
) -> tuple[Sizing | None, LotComparison]:
    """The sizes of the lots that were found where they are to be used, and the comparison.

    They are where they keep a limit that rounding breaks, or are worth no less and break no other.

    found: from `with_found_lots`; answer: of the optimum that was searched around.
    """
    search = inputs.lot_search
    assert search is not None, "told where one was asked for"
    worth = joint_objective(inputs, answer, rounded.weight)
    told = LotComparison(note=search.note, objective_rounded=worth)
    if found is None or search.weight is None:
        return None, told
    (sizing,) = run_pipeline([found], kernels)
    objective = joint_objective(inputs, answer, sizing.weight)
    sign = 1.0 if answer.problem.objective.kind.maximised else -1.0
    lost = sign * (worth - objective)
    is_used = lost <= ROUNDING * max(abs(worth), abs(objective))
    # Lots that break a limit may well be worth more: that is what the limit costs.
    left, kept = (_broken(made) for made in (rounded, sizing))
    is_used = kept < left or (is_used and not left < kept)
    is_same = _same(inputs, sizing.weight, search.weight)
    told = replace(
        told,
        shortfall=search.shortfall,
        objective=objective,
        is_used=is_used,
        gap=search.gap if is_same and is_used else None,
        note=told.note if is_same else ELSEWHERE,
    )
    return (sizing if is_used else None), told


def by_way_of_optimum(sizing: Sizing, answer: JointAnswer) -> Sizing:
    """The sizes of lots that were found, with a waterfall that comes to them from the optimum.

    They were aimed at, so the stages go from them; whole lots are the last stage only. What a limit
    has moved stays as that left it.
    """
    assert answer.weights is not None, "it was searched around"
    stages, first = sizing.stages.copy(), int(Stage.JOINT_OPTIMUM)
    aimed, optimum = stages[first].copy(), np.round(answer.weights * GRID) / GRID
    optimum = np.where(sizing.inputs.active, optimum, aimed)
    is_as_aimed = np.abs(stages[first:-1] - aimed) <= UNMOVED
    stages[first:-1] = np.where(is_as_aimed, optimum, stages[first:-1])
    return replace(sizing, stages=stages)


def _broken(sizing: Sizing) -> set[tuple[int, str]]:
    """The limits that a book is beyond with these sizes filled."""
    return {breach.key for breach in exceeded(sizing.inputs, sizing.trade_lots)}


def _same(inputs: Inputs, weight: Floats, wanted: Floats) -> bool:
    """Whether both are the same lots."""
    lot = inputs.limit_bounds.unit_weight * inputs.limit_bounds.market.lot_size
    apart = np.abs(weight - wanted)[inputs.active]
    return bool((apart <= 1e-3 * lot[inputs.index[inputs.active]]).all())
