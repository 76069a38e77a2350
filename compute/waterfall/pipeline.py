"""From stakes, or from weights to aim at, to whole lots: stages, limits, rounding, guard.

Pure but for the compiled kernels it is handed: the same input gives the same lots, today or in a
replay. `sizing.size` finds the weights to aim at, where the method has any, and runs this.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from compute.edge.estimate import EdgeEstimates
from compute.edge.of_decision import edges_of_decision
from compute.inputs import Inputs
from compute.joint.box import ends_of_optimum
from compute.joint.lots import LotComparison
from compute.joint.sizing import JointAnswer
from compute.limits.binding import Binding
from compute.limits.bindings import cuts_of, last_binding
from compute.limits.book_stage import needed_trades, within_book_limits
from compute.limits.guard import Violation
from compute.limits.line_risk import within_caps
from compute.limits.lots import whole_lots
from compute.limits.places import without_place
from compute.limits.rounded_lots import counted
from compute.limits.stops import line_bounds, may_not_grow
from compute.market import Floats, Integers
from compute.methods import Method
from compute.shapes import LINE_BUCKETS, KernelRegistry, bucket, padded
from compute.waterfall.correlated import correlation_factors, is_correlated
from compute.waterfall.growth import growth
from compute.waterfall.kernel_inputs import exposures, line_columns, scalar_inputs
from compute.waterfall.kernels import SENSITIVE, chunks, run_waterfalls
from compute.waterfall.layout import COMPILED_STAGES, Extra, Line, Stage
from compute.waterfall.sensitivity import of_given, through_columns
from compute.waterfall.stages import GRID


class LineStatus(IntEnum):
    """Outcome of a line. The numbers are those of the contract."""

    SIZED = 1
    CAPPED = 2
    ZERO = 3
    REFUSED = 4


@dataclass(frozen=True)
class Attempt:
    """A way to size that was tried, and what came of it, in words."""

    method: str
    outcome: str


@dataclass(frozen=True)
class Sizing:
    """A decision on n lines; weights signed. `stages` is (len(Stage) + 1, n), the last the lots."""

    inputs: Inputs
    """As they were sized, with what was aimed at."""
    lots: Integers
    trade_lots: Integers
    quantity: Floats
    weight: Floats
    stages: Floats
    status: Integers
    weight_low: Floats
    weight_high: Floats
    growth: Floats
    marginal: Floats
    binding: Binding
    cuts: dict[int, Binding]
    """What cut, by the row of `stages` that it made."""
    kernel: str
    rejected: tuple[Violation, ...]
    edges: EdgeEstimates | None = None
    """Of the lines, where any edge was estimated."""
    lots_compared: LotComparison | None = None
    """Where whole lots were searched."""
    joint: JointAnswer | None = None
    """Of the joint method, the optimum that was aimed at."""
    tried: tuple[Attempt, ...] = ()
    """What led here; empty where the first way answered."""
    notes: tuple[str, ...] = ()
    """What to know about the decision, in words."""
    method: Method | None = None
    """What answered, where that is not the method of the inputs."""


@np.errstate(over="ignore")  # what overflows is beyond every limit, and ends at one
def run_pipeline(items: Sequence[Inputs], kernels: KernelRegistry) -> list[Sizing]:
    """Sizes several batches; in the order given.

    Raises `MissingInputError` where a parameter needs data that isn't there.
    """
    lines = [line_columns(inputs, kernels) for inputs in items]
    arguments = [
        (
            padded(columns, bucket(columns.shape[1], LINE_BUCKETS)),
            scalar_inputs(inputs),
            *exposures(inputs),
        )
        for columns, inputs in zip(lines, items, strict=True)
    ]
    waterfalls = run_waterfalls(kernels, arguments)
    _correlate(items, lines, arguments, waterfalls, kernels)
    items = _placed(items, lines, arguments, waterfalls, kernels)
    return [
        _decided(inputs, columns, waterfall, f"waterfall/{part[0].shape[1]}x{len(part[2])}")
        for inputs, columns, part, waterfall in zip(
            items, lines, arguments, waterfalls, strict=True
        )
    ]


def _correlate(
    items: Sequence[Inputs],
    lines: list[Floats],
    arguments: list[tuple[Floats, Floats, Floats, Floats]],
    waterfalls: list[Floats],
    kernels: KernelRegistry,
) -> None:
    """Runs the batches whose stakes share risk once more, by what they lose to each other.

    What a stake is alone comes out of the first run; `lines`, `arguments` and `waterfalls` of
    these batches are replaced.
    """
    again = [i for i, inputs in enumerate(items) if is_correlated(inputs)]
    for i in again:
        alone = waterfalls[i][Stage.KELLY_FRACTION, : lines[i].shape[1]]
        lines[i][Line.CORRELATION] = correlation_factors(items[i], lines[i], alone)
    _run_again(again, lines, arguments, waterfalls, kernels)


def _placed(
    items: Sequence[Inputs],
    lines: list[Floats],
    arguments: list[tuple[Floats, Floats, Floats, Floats]],
    waterfalls: list[Floats],
    kernels: KernelRegistry,
) -> Sequence[Inputs]:
    """Runs batches that ask for more positions than there may be again, without what gets no place.

    Where all other limits leave the lines comes out of the run before; `lines`, `arguments` and
    `waterfalls` of these batches are replaced, their new inputs returned.
    """
    out, again = list(items), []
    for i, inputs in enumerate(items):
        wanted = waterfalls[i][Stage.RECONCILE, : lines[i].shape[1]]
        placeless = without_place(inputs, lines[i], wanted)
        if placeless is not None:
            inputs = replace(inputs, placeless=placeless)
            out[i] = inputs
            lines[i][Line.WEIGHT_MIN], lines[i][Line.WEIGHT_MAX] = line_bounds(inputs)
            again.append(i)
    _run_again(again, lines, arguments, waterfalls, kernels)
    return out


def _run_again(
    batches: Sequence[int],
    lines: list[Floats],
    arguments: list[tuple[Floats, Floats, Floats, Floats]],
    waterfalls: list[Floats],
    kernels: KernelRegistry,
) -> None:
    """Replaces `arguments` and `waterfalls` of these batches by those of their new `lines`."""
    for i in batches:
        before, scalars, members, bounds = arguments[i]
        arguments[i] = (padded(lines[i], before.shape[1]), scalars, members, bounds)
    if batches:
        found = run_waterfalls(kernels, [arguments[i] for i in batches])
        for i, waterfall in zip(batches, found, strict=True):
            waterfalls[i] = waterfall


def _decided(inputs: Inputs, lines: Floats, waterfall: Floats, kernel: str) -> Sizing:
    """Lots and explanations from what the kernel returned."""
    out = waterfall[:, : len(inputs.index)]
    stages, extra = out[: len(COMPILED_STAGES)], out[len(COMPILED_STAGES) :]
    moved = within_book_limits(stages[Stage.RECONCILE], inputs)
    kept = np.round(moved.weight * GRID) / GRID
    # Before turnover took back a part, which in whole lots can be another.
    unturned = stages[Stage.SHARED_LIMIT] if moved.unturned is None else moved.unturned
    lots = whole_lots(
        within_caps(kept, inputs),
        inputs.index,
        lines[Line.ACTIVE],
        inputs.limit_bounds,
        inputs.limit_bounds.guard,
        reducing=inputs.must_reduce,
        book=inputs.book_guard,
        stopless=may_not_grow(inputs),
        ends=ends_of_optimum(inputs),
        needed=lambda: needed_trades(unturned, inputs),
    )
    quantity = np.where(inputs.known, lots.quantity, 0.0)
    weight = quantity * inputs.limit_bounds.unit_weight[inputs.index]
    final = np.round(weight * GRID) / GRID
    all_stages = np.vstack([stages, kept, np.where(inputs.active, final, kept)])
    cuts = cuts_of(all_stages, extra, lots, inputs, moved.rule)
    binding = last_binding(all_stages, cuts)
    lot_size = inputs.limit_bounds.market.lot_size[inputs.index]
    value, slope = growth(weight * inputs.signals.side, lines, inputs)
    return Sizing(
        inputs=inputs,
        lots=counted(quantity, lot_size),
        trade_lots=lots.trade_lots,
        quantity=quantity,
        weight=weight,
        stages=all_stages,
        status=_status(weight, binding, inputs),
        weight_low=extra[Extra.WEIGHT_LOW],
        weight_high=extra[Extra.WEIGHT_HIGH],
        growth=value,
        marginal=slope if inputs.target_marginal is None else inputs.target_marginal,
        binding=binding,
        cuts=cuts,
        kernel=kernel,
        rejected=lots.rejected if lots.scaled_back else (),
        edges=edges_of_decision(inputs, lines),
    )


def sensitivities(inputs: Inputs, kernels: KernelRegistry) -> Floats:
    """d weight / d input before limits, rows in the order of `kernels.SENSITIVE`, (5, n)."""
    lines, scalars = line_columns(inputs, kernels), scalar_inputs(inputs)
    out = np.zeros((len(SENSITIVE), len(inputs.index)))
    for piece, width in chunks(np.arange(len(inputs.index))):
        gradient = kernels.run("sensitivity", padded(lines[:, piece], width), scalars)
        out[:, piece] = gradient[:, : len(piece)]
    out += through_columns(lines, scalars, inputs, kernels)
    return of_given(out, lines, inputs)


def _status(weight: Floats, binding: Binding, inputs: Inputs) -> Integers:
    status = np.where(binding.kind > 0, LineStatus.CAPPED, LineStatus.SIZED)
    status = np.where(weight == 0.0, LineStatus.ZERO, status)
    return np.where(inputs.active, status, LineStatus.REFUSED).astype(np.int64)
