"""Whether a map of claimed probabilities helps: tried on bets that it has not seen."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from compute.learn.calibration import Calibration, calibrator, chosen
from compute.learn.scores import log_losses
from compute.market import Floats

BLOCKS, BETS_MIN = 5, 30


@dataclass(frozen=True)
class ForwardScore:
    """Mean log losses and Brier scores of n later bets: as claimed, and calibrated."""

    bets: int
    log_loss_claimed: float
    log_loss_calibrated: float
    brier_claimed: float
    brier_calibrated: float


def forward_score(kind: Calibration | None, claimed: Floats, won: Floats) -> ForwardScore | None:
    """All but the first sixth of the bets in five blocks, each mapped by what came before it.

    kind: None for the one that so many bets bear, at each block anew. claimed, won: (n,), by time.
    None for fewer than `BETS_MIN`.
    """
    count = len(claimed)
    if count < BETS_MIN:
        return None
    cuts = [count * i // (BLOCKS + 1) for i in range(1, BLOCKS + 2)]
    made = claimed.copy()
    for first, after in pairwise(cuts):
        known = kind or chosen(first)
        block = claimed[first:after]
        fitted = calibrator(known, claimed[:first], won[:first])
        made[first:after] = fitted.apply(block, np.zeros(len(block)))[0]
    before, after_map, ended = claimed[cuts[0] :], made[cuts[0] :], won[cuts[0] :]
    return ForwardScore(
        len(ended),
        float(log_losses(before, ended).mean()),
        float(log_losses(after_map, ended).mean()),
        float(((before - ended) ** 2).mean()),
        float(((after_map - ended) ** 2).mean()),
    )
