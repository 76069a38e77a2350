"""Sizes without a server: the function that it runs, on arrays."""

import numpy as np

from compute.inputs import Inputs
from compute.limits.bounds import prepare
from compute.limits.policy import Limits
from compute.market import Market, Positions
from compute.parameters import EffectiveParameters, Shrinkage
from compute.signals import Signals
from compute.sizing import size
from compute.waterfall.kernels import just_in_time
from compute.waterfall.layout import Source

market = Market(("AAPL", "MSFT"), price=np.array([200.0, 400.0]), lot_size=np.ones(2))
book = Positions(held=np.zeros(2), open_buy=np.zeros(2), open_sell=np.zeros(2), cash=100_000.0)
bounds = prepare(market, book, Limits(weight_max=0.08))
bets = Signals(np.ones(2), np.full(2, Source.WIN_LOSS), np.array([0.6, 0.55]), np.ones(2))
half_kelly = EffectiveParameters(kelly_fraction=0.5, confidence_shrinkage=Shrinkage.NONE)
each = np.ones(2, dtype=bool)
made = size(Inputs(bets, np.arange(2), each, each, bounds, half_kelly), just_in_time())
for name, lots, weight in zip(market.instrument_ids, made.lots, made.weight, strict=True):
    print(f"{name} {lots} units, {weight:.2%} of equity")
