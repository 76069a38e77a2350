"""What forecasts are worth on each path of combinatorial cross-validation."""

from dataclasses import dataclass

import numpy as np

from compute.learn.combinatorial import Forecast, Split, path_forecasts
from compute.learn.evidence import by_start
from compute.learn.pools import log_wealth
from compute.learn.rows import Rows
from compute.learn.scores import log_losses
from compute.market import Floats


@dataclass(frozen=True)
class PathScores:
    """Of each path, (P,): mean log loss a bet; the log loss of climatology and of the odds less
    that of the forecasts, mean over start times; and log growth of the bets per start time."""

    splits: int
    log_loss: Floats
    over_climatology: Floats
    over_implied: Floats
    growth: Floats


def path_scores(rows: Rows, found: list[Split], forecast: Forecast, fraction: float) -> PathScores:
    """Scores of `forecast` on rows by time; fraction: of Kelly. Climatology is the win rate of the
    bets that taught the split."""

    def base_rate(train: Rows, test: Rows) -> Floats:
        return np.full(len(test), (train.won.sum() + 1.0) / (len(train) + 2.0))

    p, base = (path_forecasts(rows, found, said) for said in (forecast, base_rate))
    columns = []
    for said, rate in zip(p, base, strict=True):
        loss = log_losses(said, rows.won)
        over = [
            float(by_start(rows.start, log_losses(bar, rows.won) - loss).mean())
            for bar in (rate, rows.implied)
        ]
        bets = (rows.won, rows.payoff, rows.loss, rows.start, fraction)
        columns.append((float(loss.mean()), *over, float(log_wealth(said[None], *bets).mean())))
    return PathScores(len(found), *np.array(columns).T)
