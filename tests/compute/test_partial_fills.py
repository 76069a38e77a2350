"""Whatever part of what is reserved fills, in whatever order, no instrument ends beyond its limits.

A ledger of its own follows every open trade lot by lot; it shares nothing with guard or bounds.
"""

import numpy as np
import pytest

from compute.inputs import Inputs
from compute.limits.bounds import prepare
from compute.limits.policy import InstrumentLimit, Limits
from compute.market import Market, Positions
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry
from compute.signals import Signals
from compute.sizing import size
from compute.waterfall.layout import Source

N = 4
EQUITY = 1e6
PRICE = np.array([100.0, 37.0, 5.0, 210.0])
LOT = np.array([1.0, 10.0, 1.0, 1.0])
LIMITS = Limits(
    weight_max=0.2,
    notional_max=1.5e5,
    instruments={"I2": InstrumentLimit(quantity_max=8_000.0)},
    allow_short=True,
    allow_flip=True,
    short_margin_rate=0.1,
)
NOTIONAL_MAX = np.array([1.5e5, 1.5e5, 40_000.0, 1.5e5])


class Ledger:
    """Holdings, and open trades as they are filled: prices stand still, nothing costs a fee."""

    def __init__(self) -> None:
        self.held = np.zeros(N)
        self.cash = EQUITY
        self.open: list[np.ndarray] = []

    def positions(self) -> Positions:
        """The book as the service sees it."""
        buys = sum((np.maximum(t, 0.0) for t in self.open), np.zeros(N))
        sells = sum((np.maximum(-t, 0.0) for t in self.open), np.zeros(N))
        return Positions(self.held.copy(), buys, sells, self.cash)

    def fill(self, rng: np.random.Generator) -> None:
        """Some whole lots of some open trade; at times the rest of it is cancelled."""
        if not self.open:
            return
        which = int(rng.integers(len(self.open)))
        lots = np.trunc(rng.uniform(0.0, 1.2, N).clip(0.0, 1.0) * np.abs(self.open[which]) / LOT)
        filled = np.sign(self.open[which]) * lots * LOT
        self.held += filled
        self.cash -= float(PRICE @ filled)
        self.open[which] = self.open[which] - filled
        if rng.random() < 0.4:
            del self.open[which]

    def check(self) -> None:
        """The largest that each position may turn out to be, one open trade at a time."""
        for i in range(N):
            high = low = self.held[i]
            for trade in self.open:
                high, low = high + max(trade[i], 0.0), low + min(trade[i], 0.0)
            assert PRICE[i] * max(high, -low) <= NOTIONAL_MAX[i] * (1 + 1e-9), (i, high, low)


@pytest.mark.parametrize("seed", range(6))
def test_no_part_of_open_trades_leads_beyond_a_limit(seed: int, kernels: KernelRegistry) -> None:
    rng = np.random.default_rng([40, seed])
    market = Market(tuple(f"I{i}" for i in range(N)), PRICE, LOT)
    parameters = EffectiveParameters(kelly_fraction=1.0, confidence_shrinkage=Shrinkage.NONE)
    ledger, crossing = Ledger(), 0
    for _ in range(150):
        positions = ledger.positions()
        limit_bounds = prepare(market, positions, LIMITS)
        signals = Signals(
            side=rng.choice([1.0, -1.0], N),
            source=np.full(N, int(Source.WIN_LOSS)),
            win_probability=rng.uniform(0.45, 0.8, N),
            payoff=np.ones(N),
        )
        whole = np.ones(N, dtype=bool)
        inputs = Inputs(signals, np.arange(N), whole, whole, limit_bounds, parameters)
        made = size(inputs, kernels)
        trade = made.trade_lots * LOT
        crossing += int(((positions.held * positions.expected < 0) & (trade != 0)).any())
        if trade.any():
            ledger.open.append(trade)
        ledger.check()
        for _ in range(int(rng.integers(0, 4))):
            ledger.fill(rng)
            ledger.check()
    assert crossing > 5, "books whose open trades cross zero were met"
