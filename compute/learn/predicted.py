"""What models say of the lines of a batch, as it is recorded with the decision.

A line whose edge comes from a model becomes a bet with the probability and standard error that are
written here; a replay reads them and needs no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from compute.adapt.adjustment import Adjustment, AdjustmentSource
from compute.adapt.line_rules import rule_multipliers
from compute.market import Floats
from compute.signals import LineError, Signals
from compute.waterfall.layout import Source


@dataclass(frozen=True)
class Prediction:
    """Of one model: win probability and standard error of each of `lines`."""

    model_id: str
    model_hash: str
    lines: tuple[int, ...]
    win_probability: tuple[float, ...]
    win_probability_error: tuple[float, ...]


@dataclass(frozen=True)
class WrongLine:
    """A line of which nothing young enough is known."""

    line: int
    reason: str
    message: str


@dataclass(frozen=True)
class StoredFeatures:
    """What was known of `lines` in a feature set when they were sized, of the features `names`.

    values: of each line, empty where nothing was known; as_of_time: when they were true, ISO 8601;
    wrong: the lines that are refused for it.
    """

    feature_set_id: str
    names: tuple[str, ...]
    lines: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]
    as_of_time: tuple[str, ...]
    wrong: tuple[WrongLine, ...] = ()

    def column(self, name: str, n: int) -> Floats:
        """A feature of n lines, NaN where it isn't known."""
        place, column = self.names.index(name), np.full(n, np.nan)
        for line, row in zip(self.lines, self.values, strict=True):
            if row:
                column[line] = row[place]
        return column


def unknown_features(stored: Sequence[StoredFeatures]) -> list[LineError]:
    """A line error for each line whose features aren't known, told once."""
    found: dict[int, LineError] = {}
    for item in stored:
        for wrong in item.wrong:
            error = LineError(wrong.line, "instrument_ids", wrong.reason, wrong.message)
            found.setdefault(wrong.line, error)
    return list(found.values())


def with_predictions(
    signals: Signals, predictions: Sequence[Prediction], refused: Sequence[int]
) -> Signals:
    """The signals with predicted lines as bets.

    Lines of a model that were `refused` for their features become bets without an edge, so that
    they are told once; what is left of a model has no edge (`signals.check`).
    """
    if not predictions:
        return signals
    n = len(signals.side)
    source = signals.source.copy()
    p, error = _or(signals.win_probability, n, 0.5), _or(signals.win_probability_error, n, 0.0)
    for item in predictions:
        lines = np.array(item.lines, dtype=np.int64)
        p[lines], error[lines] = item.win_probability, item.win_probability_error
        source[lines] = Source.WIN_LOSS
    left = np.intersect1d(np.flatnonzero(source == Source.MODEL), refused).astype(np.int64)
    source[left], p[left] = Source.WIN_LOSS, 0.5
    return replace(signals, source=source, win_probability=p, win_probability_error=error)


def line_multipliers(adjustments: Sequence[Adjustment]) -> Floats | None:
    """By what the edge of each line is multiplied, (n,); None where neither model nor rule does."""
    source = AdjustmentSource.SIZE_MODEL
    model = next((item.lines for item in adjustments if item.source is source), ())
    rules = rule_multipliers(adjustments)
    if not model:
        return rules
    return np.array(model) if rules is None else np.array(model) * rules


def _or(column: Floats | None, n: int, value: float) -> Floats:
    return np.full(n, value) if column is None else column.copy()
