"""The margin of what is held never exceeds equity, whatever is decided and whichever trades fill.

Prices stand still and trades are filled at them without fees, so that equity never changes. Only
part of what is open fills, in any order; some of it is given up. Books have cash instruments,
futures and options by delta, at random margin rates.
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.random import Generator

from compute.inputs import Inputs
from compute.limits.bounds import prepare
from compute.limits.policy import Limits
from compute.market import Market, Positions, equity_of
from compute.money.contracts import contracts
from compute.money.margin import capital, need, terms_of
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry
from compute.signals import Signals
from compute.sizing import size
from compute.waterfall.layout import Source

N = 6
STEPS = 12


def market_of(rng: Generator) -> Market:
    price = 10.0 ** rng.uniform(0.0, 3.0, N)
    kind = rng.choice([1.0, 1.0, 2.0], N)
    columns = {
        "contract_kind": kind,
        "multiplier": rng.choice([1.0, 50.0], N),
        "margin_rate_long": np.where(kind == 2.0, rng.uniform(0.02, 0.5, N), 1.0),
        "margin_rate_short": rng.uniform(0.05, 1.5, N),
        "underlying_price": np.where(rng.random(N) < 0.2, 10.0 * price, 0.0),
        "delta": rng.uniform(0.1, 1.0, N),
    }
    made = contracts(price, np.ones(N), columns)
    return Market(
        tuple(f"I{i}" for i in range(N)),
        price=made.exposure,
        lot_size=rng.choice([1.0, 0.01], N),
        contracts=made,
    )


def signals_of(rng: Generator) -> Signals:
    p = rng.uniform(0.3, 0.99, N)
    return Signals(
        side=rng.choice([-1.0, 1.0], N),
        source=np.full(N, int(Source.WIN_LOSS)),
        win_probability=p,
        payoff=np.ones(N),
        loss_fraction=rng.choice([0.02, 0.5, 1.0], N),
    )


@pytest.mark.parametrize("seed", range(40))
def test_margin_used_never_exceeds_equity(seed: int, kernels: KernelRegistry) -> None:
    rng = np.random.default_rng(seed)
    market, flips = market_of(rng), bool(rng.random() < 0.5)
    limits = Limits(allow_short=True, allow_flip=flips, cash_buffer=float(rng.choice([0.0, 0.1])))
    book = Positions(np.zeros(N), np.zeros(N), np.zeros(N), cash=1e6)
    terms = terms_of(market, limits)
    parameters = EffectiveParameters(confidence_shrinkage=Shrinkage.NONE)
    orders: list[tuple[np.ndarray, np.ndarray]] = []  # units still open, capital held for them
    traded = 0
    for _ in range(STEPS):
        limit_bounds = prepare(market, book, limits)
        everything = np.arange(N)
        inputs = Inputs(
            signals_of(rng),
            everything,
            np.ones(N, bool),
            np.ones(N, bool),
            limit_bounds,
            parameters,
        )
        sizing = size(inputs, kernels)
        units = sizing.trade_lots * market.lot_size
        low, high = book.held - book.open_sell, book.held + book.open_buy
        columns = terms.rate_long, terms.rate_short, terms.fee
        bound = need(
            units * market.price, low * market.price, high * market.price, *columns, at_once=False
        )
        traded += int(np.abs(sizing.trade_lots).sum())
        orders.append((units, bound))
        for place in rng.permutation(len(orders))[:3]:
            open_units, open_bound = orders[place]
            part = rng.choice([0.0, 0.3, 1.0], N)
            filled = part * open_units
            paid = filled @ market.value
            left = 0.0 if rng.random() < 0.2 else 1.0 - part  # given up, or still open
            orders[place] = (left * open_units, left * open_bound)
            held = book.held + filled
            book = replace(
                book, held=np.where(np.abs(held) < 1e-9, 0.0, held), cash=book.cash - paid
            )
        opened = np.array([units for units, _ in orders])
        book = replace(
            book,
            open_buy=np.maximum(opened, 0.0).sum(axis=0),
            open_sell=np.maximum(-opened, 0.0).sum(axis=0),
            cash_reserved=float(sum(bound.sum() for _, bound in orders)),
        )
        found = capital(market, book, terms)
        assert equity_of(market, book) == pytest.approx(1e6, rel=1e-9)
        assert found.used <= 1e6 * (1.0 + 1e-9)
        # Whatever else fills: the worst of every instrument together.
        assert found.free >= -1e-3
    assert traded > 0
