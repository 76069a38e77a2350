"""One scaled linear program from a frame and what is kept of every tail measure, and its reading.

Columns: those of the frame, the threshold z of every measure, (when the least violation is sought)
the violation of every cap, and last the excesses u of every measure. Rows: those of the frame,
then for each measure its pairs (level_s - level_t)'w - z - u_t <= 0 and its cap. Thresholds and
excesses are divided by the unit of the weights and by the scale of the measure, so all numbers are
near one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compute.optimize.linear_program import LinearProgram
from compute.optimize.tail_lp.interior_point import LinearAnswer
from compute.optimize.tail_lp.linear_model import Frame
from compute.optimize.tail_lp.scenario_selection import ActiveScenarios, Columns, Measure

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """Where a measure stands in the program: its threshold column, excesses, pair rows, cap row."""

    threshold: int
    excess: slice
    pairs: slice
    cap: int | None


@dataclass(frozen=True)
class Assembly:
    """The program, where the measures stand in it, and what its value was divided by."""

    program: LinearProgram
    places: tuple[Place, ...]
    objective_scale: float


def _places(
    frame: Frame, terms: tuple[Measure, ...], kept: tuple[ActiveScenarios, ...], broken: int
) -> list[Place]:
    """Where every measure stands; broken: number of columns for the violation of caps."""
    row, threshold = len(frame.row_min), len(frame.cost)
    column = threshold + len(terms) + broken
    places = []
    for term, known in zip(terms, kept, strict=True):
        excesses = len(known.times) if len(term.excess) else 0
        pairs = len(known.pairs)
        capped = term.cap is not None
        places.append(
            Place(
                threshold,
                slice(column, column + excesses),
                slice(row, row + pairs),
                row + pairs if capped else None,
            )
        )
        threshold += 1
        column += excesses
        row += pairs + capped
    return places


def assemble(
    frame: Frame,
    terms: tuple[Measure, ...],
    kept: tuple[ActiveScenarios, ...],
    *,
    elastic: bool = False,
) -> Assembly:
    """Build the program; with `elastic` caps may be broken at a price of one."""
    broken = sum(term.cap is not None for term in terms) if elastic else 0
    places = _places(frame, terms, kept, broken)
    own, limits = len(frame.cost), len(frame.row_min)
    first = own + len(terms)  # of the violations
    width = places[-1].excess.stop if places else own
    height = places[-1].pairs.stop + (places[-1].cap is not None) if places else limits
    rows = np.zeros((height, width))
    cost, lower, upper = np.zeros(width), np.zeros(width), np.full(width, np.inf)
    low, high = np.full(height, -np.inf), np.zeros(height)
    rows[:limits, :own] = frame.rows
    high[:limits], low[:limits] = frame.row_max, frame.row_min
    cost[:own], lower[:own], upper[:own] = frame.cost, frame.lower, frame.upper
    for term, known, place in zip(terms, kept, places, strict=True):
        _state(frame, term, known, place, rows, high, cost, 0.0 if elastic else term.weight)
        lower[place.threshold] = -np.inf if len(term.excess) else 0.0
    if elastic:
        for slot, place, term in _capped(places, terms):
            rows[place.cap, first + slot] = -1.0
            cost[first + slot] = term.scale
    scale = float(np.max(np.abs(cost), initial=0.0)) or 1.0
    excess = width - first - broken
    program = LinearProgram(-cost / scale, rows, low, high, lower, upper, excess=excess)
    return Assembly(program, tuple(places), scale)


def _capped(places: list[Place], terms: tuple[Measure, ...]) -> list[tuple[int, Place, Measure]]:
    pairs = [(p, t) for p, t in zip(places, terms, strict=True) if p.cap is not None]
    return [(slot, place, term) for slot, (place, term) in enumerate(pairs)]


def _state(
    frame: Frame,
    term: Measure,
    known: ActiveScenarios,
    place: Place,
    rows: Vector,
    high: Vector,
    cost: Vector,
    weight: float,
) -> None:
    """Write one measure's pairs, its part of the objective and its cap into the program."""
    pieces, natural = frame.pieces, frame.unit * term.scale
    count = len(pieces.asset)
    vectors = (term.levels[known.pairs[:, 0]] - term.levels[known.pairs[:, 1]]) / term.scale
    rows[place.pairs, :count] = pieces.spread(vectors)
    rows[place.pairs, place.threshold] = -1.0
    high[place.pairs] = -(vectors @ pieces.base) / frame.unit
    value = np.zeros(rows.shape[1])
    value[place.threshold] = 1.0
    constant = 0.0
    if len(term.excess):
        group = np.searchsorted(known.times, known.pairs[:, 1])
        rows[np.arange(place.pairs.start, place.pairs.stop), place.excess.start + group] = -1.0
        value[place.excess] = term.excess[known.times - 1]
        sure = term.excess[known.sure[:, 1] - 1]
        slope = sure @ (term.levels[known.sure[:, 0]] - term.levels[known.sure[:, 1]])
        value[:count] = pieces.spread(slope / term.scale)
        value[place.threshold] -= sure.sum()
        constant = float(slope @ pieces.base)
    cost += weight * term.scale * value
    if place.cap is not None and term.cap is not None:
        rows[place.cap] = value
        high[place.cap] = (term.cap - constant) / natural


def weights(frame: Frame, answer: LinearAnswer) -> Vector:
    """The weights [n] of an answer."""
    return frame.pieces.weights(answer.point[: len(frame.pieces.asset)], frame.unit)


def columns(frame: Frame, term: Measure, place: Place, answer: LinearAnswer) -> Columns:
    """Threshold and excesses of a measure in natural units."""
    natural = frame.unit * term.scale
    return Columns(
        float(answer.point[place.threshold]) * natural, answer.point[place.excess] * natural
    )
