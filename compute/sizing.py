"""One decision of any method: what is wanted, held and allowed in, whole lots out.

    size(inputs, kernels) -> Sizing

Pure: no I/O, no clock, no messages. Live calls, what-ifs, replays and backtests all come here, so
that the same inputs give the same lots wherever they are sized.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compute.inputs import Inputs
from compute.joint.lot_choice import better, by_way_of_optimum
from compute.joint.lots import LotComparison
from compute.joint.value import is_worse_than_keeping
from compute.money.text import money
from compute.optimize.execution import IN_THIS_THREAD, Runner
from compute.optimize.time_limit import ENDLESS, TimeLimit
from compute.shapes import KernelRegistry
from compute.target import Target, target_of
from compute.waterfall.pipeline import Sizing, run_pipeline
from compute.waterfall.trade_plan import line_by_line_notes


def size(
    inputs: Inputs,
    kernels: KernelRegistry,
    runner: Runner = IN_THIS_THREAD,
    time_limit: TimeLimit = ENDLESS,
) -> Sizing:
    """Sizes a batch by the method of `inputs`.

    runner: who runs joint work. Raises `MissingInputError` where a limit or parameter needs data
    that isn't there, `InfeasibleLimitsError` where no sizes satisfy the limits together.
    """
    return size_together([inputs], kernels, runner, time_limit)[0]


def size_together(
    batches: Sequence[Inputs],
    kernels: KernelRegistry,
    runner: Runner = IN_THIS_THREAD,
    time_limit: TimeLimit = ENDLESS,
) -> list[Sizing]:
    """The same for several batches; in their order."""
    targets = [target_of(inputs, kernels, runner, time_limit) for inputs in batches]
    sizings = run_pipeline([target.inputs for target in targets], kernels)
    return [_of_target(*item, kernels) for item in zip(batches, targets, sizings, strict=True)]


def _of_target(given: Inputs, target: Target, rounded: Sizing, kernels: KernelRegistry) -> Sizing:
    """The sizing with how it came about; no trade where lots are worth less than that."""
    target, sizing, compared = _of_search(target, rounded, kernels)
    inputs, joint = target.inputs, target.answer
    if joint is not None and is_worse_than_keeping(inputs, joint, sizing.weight):
        keep = replace(inputs, target=inputs.limit_bounds.before[inputs.index])
        sizing = run_pipeline([keep], kernels)[0]
    if inputs.limit_bounds is not given.limit_bounds:  # limits as stated, which it is held against
        inputs = replace(inputs, limit_bounds=given.limit_bounds, floor_held=given.floor_held)
    return replace(
        sizing,
        inputs=inputs,
        joint=joint,
        tried=target.tried,
        notes=(
            *target.notes,
            *(() if joint is None else line_by_line_notes(inputs)),
            *fee_notes(sizing),
        ),
        lots_compared=compared,
        method=target.method,
    )


def fee_notes(sizing: Sizing) -> list[str]:
    """The trades whose fees are more than they are of, in words."""
    inputs = sizing.inputs
    bounds, index = inputs.limit_bounds, inputs.index
    market, terms = bounds.market, bounds.terms
    notional = np.abs(sizing.trade_lots) * (market.lot_size * market.price)[index]
    fees = terms.fee[index] * notional + terms.order_fees(index, notional)
    return [
        f"{market.instrument_ids[index[line]]}: fees of {money(fees[line])} for a trade of "
        f"{money(notional[line])}, in the portfolio's base currency"
        for line in np.flatnonzero(fees > notional)
    ]


def _of_search(
    target: Target, rounded: Sizing, kernels: KernelRegistry
) -> tuple[Target, Sizing, LotComparison | None]:
    """The lots of a search, where one was asked for and they are worth no less."""
    if target.around is None:
        return target, rounded, None
    sizing, compared = better(target.inputs, target.lots, target.around, rounded, kernels)
    if sizing is None or target.lots is None:
        return target, rounded, compared
    sizing = by_way_of_optimum(sizing, target.around)
    return replace(target, inputs=target.lots, answer=target.around, tried=()), sizing, compared
