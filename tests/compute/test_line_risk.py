"""Risk rules of single lines hold on the lots, and give way to limits of instruments."""

import numpy as np
import pytest

from compute.inputs import Inputs
from compute.joint.box import line_box
from compute.limits.bounds import prepare
from compute.limits.policy import LimitKind, Limits
from compute.market import Market, Positions
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry
from compute.signals import Signals
from compute.sizing import size
from compute.waterfall.layout import Source

ONE = np.ones(1, dtype=bool)


def test_a_volatility_target_finer_than_the_grid_holds_on_the_lots(kernels: KernelRegistry) -> None:
    """A billion of equity: half a step of the grid is worth more than two hundred lots."""
    market = Market(
        ("A",),
        price=np.array([196.25818]),
        lot_size=np.array([1e-8]),
        volatility=np.array([1.0091577]),
    )
    book = Positions(held=np.zeros(1), open_buy=np.zeros(1), open_sell=np.zeros(1), cash=1e9)
    bounds = prepare(market, book, Limits(weight_max=0.11))
    bet = Signals(np.ones(1), np.full(1, Source.WIN_LOSS), np.array([0.6]), np.ones(1))
    beyond = 0
    for target in np.linspace(1.0e-6, 1.1e-6, 11):
        rules = EffectiveParameters(
            kelly_fraction=0.5, confidence_shrinkage=Shrinkage.NONE, volatility_target=target
        )
        made = size(Inputs(bet, np.zeros(1, int), ONE, ONE, bounds, rules), kernels)
        risk = float(made.trade_lots[0]) * 1e-8 * 196.25818 * 1.0091577
        assert risk == pytest.approx(target * 1e9, rel=1e-6)
        assert risk <= target * 1e9 * (1.0 + 1e-13)
        beyond += made.stages[-2, 0] * 1.0091577 > target
    assert beyond > 0  # the grid rounds up as well as down


def test_what_reserved_trades_leave_of_a_limit_goes_before_the_side_of_a_signal() -> None:
    """Short 0.12 with a purchase of 0.2 open and at most 0.1: a sale would add to the short side.

    0.08 long is what is left when the purchase fills, and the signal asks for a short position.
    """
    market = Market(("A",), price=np.array([1.0]), lot_size=np.ones(1))
    book = Positions(
        held=np.array([-120.0]), open_buy=np.array([200.0]), open_sell=np.zeros(1), cash=1120.0
    )
    limits = Limits(notional_max=100.0, allow_short=True, allow_flip=True)
    short = Signals(-np.ones(1), np.full(1, Source.WIN_LOSS), np.array([0.6]), np.ones(1))
    inputs = Inputs(
        short, np.zeros(1, int), ONE, ONE, prepare(market, book, limits), EffectiveParameters()
    )
    box = line_box(inputs, np.zeros(1, int))
    np.testing.assert_allclose([box.lower.weight[0], box.upper.weight[0]], 0.08, rtol=1e-12)
    assert box.upper.kind[0] == box.lower.kind[0] == LimitKind.NOTIONAL_MAX
