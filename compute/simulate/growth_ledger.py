"""Which stage of the waterfall earned what: realised growth as a sum over stages.

    G(w_k) = sum_t log(1 + w_k,t' r_t+1),   total = G(w_0) + sum_k (G(w_k) - G(w_k-1)) + rest

w_0 the raw Kelly weights, w_K the final lots, r the returns to the next close. The rest is what
the account earned beyond its lots marked from close to close: fills away from the close, fees,
interest. The sum is exact by construction; what it says is the sign and the size of each step.
"""

from dataclasses import dataclass

import numpy as np

from compute.market import Floats
from compute.simulate.backtest import Backtest
from compute.waterfall.layout import Stage

LOTS = len(Stage)
"""Index of the final lots among the stages."""


@dataclass(frozen=True)
class GrowthLedger:
    """Realised log growth by stage.

    start: G of the first stage whose weights would have survived, `first_stage` its index; the
    stages before it would have been ruined and have no growth. step: what each later stage changed,
    (LOTS - first_stage,). execution: the rest. total: log(W_T / W_0); None where the account itself
    was ruined, and with it execution.
    """

    first_stage: int
    start: float
    step: Floats
    execution: float | None
    total: float | None


def growth_ledger(backtest: Backtest) -> GrowthLedger:
    """The ledger of a backtest; steps and execution sum to total - start.

    Raises `ValueError` for a backtest of the fast mode.
    """
    if backtest.stage_growth is None:
        raise ValueError("the fast mode keeps no growth by stage")
    total = None
    if backtest.ruined is None:
        total = float(np.log(backtest.equity[-1] / backtest.equity[0]))
    return ledger_of(backtest.stage_growth, total)


def ledger_of(growth: Floats, total: float | None = None) -> GrowthLedger:
    """The ledger of G of each stage, (LOTS + 1,), -inf where its weights would have been ruined.

    Where the last is -inf no stage has a growth, and `start` is -inf.
    """
    # Stages up to the last that would have been ruined are left out, so that every step is finite.
    ruined = np.flatnonzero(~np.isfinite(growth))
    first = int(ruined[-1]) + 1 if len(ruined) else 0
    if first > LOTS:
        return GrowthLedger(LOTS, -np.inf, np.zeros(0), None, total)
    execution = None if total is None else total - float(growth[LOTS])
    return GrowthLedger(first, float(growth[first]), np.diff(growth[first:]), execution, total)
