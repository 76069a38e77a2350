"""Books as traders state them: futures, FX, perpetuals, options, pence and several currencies.

Every number is written down here; each book has positions of both sides, of which some are against
the signal, and an order that an earlier decision left open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    sizing_pb2,
    types_pb2,
)

from tests.server.support.wide_books import CASH, FUTURE, INVERSE, QUOTED, Wide

Kind = market_service_pb2
LONG, SHORT = types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT
PERIODS = 60
_OF_THE_PORTFOLIO = ("side", "held", "average", "expected")


@dataclass(frozen=True)
class Trader:
    """A book. usual: what a weight of it is about, as futures are many times equity.

    lines: one dictionary an instrument: its columns of the market, `held` and `average`, and the
    `side` of its signal with what that expects a period. open_lots: orders that an earlier decision
    is to leave open, by how much of equity at most.
    """

    name: str
    base: str
    equity: float
    cash: float
    usual: float
    lines: tuple[dict[str, Any], ...]

    @property
    def names(self) -> list[str]:
        return [line["id"] for line in self.lines]

    def snapshot(self) -> Kind.MarketSnapshot:
        snapshot = Kind.MarketSnapshot(instrument_ids=self.names)
        snapshot.as_of_time.GetCurrentTime()
        for source, to, rate in QUOTED:
            snapshot.exchange_rates.add(from_currency=source, to_currency=to, rate=rate)
        columns = {name for line in self.lines for name in line} - {"id", *_OF_THE_PORTFOLIO}
        for name in sorted(columns):
            empty: Any = _UNSTATED.get(name, 0.0)
            getattr(snapshot, name).extend([line.get(name, empty) for line in self.lines])
        return snapshot

    def signals(self, *, as_held: bool = False) -> sizing_pb2.SignalBatch:
        """One line an instrument, on its own side or on that of what is held."""
        n = len(self.lines)
        sides = [line.get("side", LONG) for line in self.lines]
        if as_held:
            held = [line["held"] for line in self.lines]
            sides = [SHORT if q < 0 else LONG if q else s for q, s in zip(held, sides, strict=True)]
        return sizing_pb2.SignalBatch(
            instrument_ids=self.names,
            side=sides,
            edge_source=[sizing_pb2.EDGE_SOURCE_RETURN_VOLATILITY] * n,
            expected_return=[line.get("expected", 0.004) for line in self.lines],
            volatility=[0.02] * n,
        )

    def matrices(self) -> dict[str, Kind.Matrix]:
        """Scenarios of periods that are quiet or wild for all alike, and their covariance."""
        rng, n = np.random.default_rng(len(self.name)), len(self.lines)
        wild = np.where(np.arange(PERIODS) % 12 == 5, 3.0, 1.0)[:, None]
        returns = wild * (
            0.005 * rng.standard_normal((PERIODS, 1)) + 0.007 * rng.standard_normal((PERIODS, n))
        )
        out = {}
        for field, kind, values in (
            ("scenario_matrix_id", Kind.MATRIX_KIND_SCENARIOS, returns),
            ("covariance_matrix_id", Kind.MATRIX_KIND_COVARIANCE, np.cov(returns.T)),
        ):
            out[field] = Kind.Matrix(kind=kind, instrument_ids=self.names)
            out[field].dense.values.extend(values.ravel().tolist())
        return out

    def case(self) -> Wide:
        """The book without limits."""
        return Wide(
            seed=0,
            money=self.equity,
            snapshot=self.snapshot(),
            base=self.base,
            cash=self.cash,
            held={line["id"]: line["held"] for line in self.lines if line.get("held")},
            average={line["id"]: line["average"] for line in self.lines if line.get("average")},
            stored=limits_pb2.Limits(),
            parameters=parameter_service_pb2.SizingParameters(kelly_fraction=0.5),
            matrices=self.matrices(),
            signals=[self.signals()],
            stress=self.stress(),
            spreading=frozenset([self.scenario_id("spread")]),
        )

    def scenario_id(self, kind: str) -> str:
        """The id of one of its stress scenarios."""
        return "-".join([kind, *re.findall("[a-z]+", self.name.lower())])

    def stress(self) -> dict[str, dict[str, float]]:
        """Returns of what its scenarios name: of all, and of the first one, which spreads."""
        fall = [(-1.0) ** (i + 1) * (0.2 + 0.1 * i) for i in range(len(self.names))]
        shock = dict(zip(self.names, fall, strict=True))
        return {
            self.scenario_id("shock"): shock,
            self.scenario_id("spread"): {self.names[0]: -0.3},
        }


_UNSTATED = {
    "currency": "USD",
    "sector": "A",
    "contract_kind": CASH,
    "multiplier": 1.0,
    "lot_size": 1.0,
    "margin_rate_long": 1.0,
    "margin_rate_short": 1.0,
    "delta": 1.0,
    "halted": False,
}


def _future(name: str, price: float, multiplier: float, **given: Any) -> dict[str, Any]:
    return {
        "id": name,
        "price": price,
        "contract_kind": FUTURE,
        "multiplier": multiplier,
        **given,
    }


def _amounts(long: float, short: float) -> dict[str, float]:
    return {"initial_margin_long": long, "initial_margin_short": short}


def _rates(long: float, short: float) -> dict[str, float]:
    return {"margin_rate_long": long, "margin_rate_short": short}


def _market(
    volatility: float, volume: float, stop: float = 0.0, sector: str = "A"
) -> dict[str, Any]:
    return {
        "volatility": volatility,
        "average_daily_volume": volume,
        "stop_price": stop,
        "sector": sector,
    }


def _held(units: float, average: float = 0.0, side: int = LONG, **given: Any) -> dict[str, Any]:
    return {"held": units, "average": average, "side": side, **given}


INDEX = Trader(
    "index futures, margin by amount",
    "USD",
    equity=2_001_000.0,
    cash=1_980_000.0,
    usual=3.0,
    lines=(
        _future("ES", 4_000.0, 50.0, **_amounts(12_000.0, 12_500.0), fee_per_unit=2.25)
        | _market(0.2, 2e4, 3_900.0)
        | _held(10.0, 3_990.0),
        _future("NQ", 14_000.0, 20.0, **_amounts(17_000.0, 17_000.0), fee_per_unit=2.25)
        | _market(0.25, 1e4, 0.0, "B")
        | _held(-8.0, 14_100.0, LONG),
        _future("YM", 34_000.0, 5.0, **_amounts(8_800.0, 8_800.0), fee_fixed=1.5)
        | _market(0.18, 1e4, 33_000.0)
        | _held(0.0, 0.0, SHORT),
        _future("CALENDAR", -0.25, 1_000.0, **_amounts(900.0, 900.0))
        | _market(0.3, 1e6, 0.0, "B")
        | _held(12.0, 0.0, LONG),
    ),
)
COMMODITIES = Trader(
    "commodity futures, margin by rate",
    "USD",
    equity=1_008_000.0,
    cash=1_000_000.0,
    usual=3.0,
    lines=(
        _future("CL", 75.0, 1_000.0, **_rates(0.08, 0.09))
        | _market(0.35, 2e4, 72.0)
        | _held(5.0, 74.0),
        _future("GC", 1_900.0, 100.0, **_rates(0.05, 0.05))
        | _market(0.15, 1e4, 1_950.0, "B")
        | _held(-3.0, 1_910.0, SHORT),
        _future("ZN", 112.5, 1_000.0, **_rates(0.02, 0.02))
        | _market(0.06, 3e4, 110.0, "B")
        | _held(9.0, 0.0, SHORT),
        _future("HG", 3.8, 25_000.0, **_rates(0.06, 0.07)) | _market(0.25, 5e3) | _held(0.0),
    ),
)
FX = Trader(
    "FX pairs in a book of euros",
    "EUR",
    equity=502_277.272727,
    cash=500_000.0,
    usual=4.0,
    lines=(
        _future("EURUSD", 1.10, 1.0, **_rates(0.0333, 0.0333), lot_size=1_000.0)
        | _market(0.08, 2e8, 1.08)
        | _held(300_000.0, 1.095),
        _future("USDJPY", 149.25, 1.0, **_rates(0.04, 0.04), lot_size=1_000.0, currency="JPY")
        | _market(0.1, 2e8, 151.0, "B")
        | _held(-200_000.0, 150.0, SHORT),
        _future("GBPUSD", 1.25, 1.0, **_rates(0.05, 0.05), lot_size=1_000.0)
        | _market(0.09, 1e8)
        | _held(100_000.0, 0.0, SHORT),
        _future("EURJPY", 164.2, 1.0, **_rates(0.04, 0.04), lot_size=1_000.0, currency="JPY")
        | _market(0.11, 1e8, 160.0, "B")
        | _held(0.0),
    ),
)
PERPETUALS = Trader(
    "linear perpetuals",
    "USD",
    equity=202_275.0,
    cash=200_000.0,
    usual=2.0,
    lines=tuple(
        _future(name, price, 1.0, **_rates(rate, rate), lot_size=lot, fee_rate=0.0005)
        | {"quantity_min": lot, "notional_min": 100.0, "quantity_max": most}
        | _market(volatility, volume, stop, sector)
        | _held(held, average, side)
        for name, price, rate, lot, most, volatility, volume, stop, sector, held, average, side in (
            ("BTC-PERP", 60_000.0, 0.1, 0.001, 5.0, 0.6, 5e3, 55_000.0, "A", 1.25, 59_000.0, LONG),
            ("ETH-PERP", 3_000.0, 0.1, 0.01, 80.0, 0.8, 5e4, 3_300.0, "A", -20.5, 3_050.0, SHORT),
            ("SOL-PERP", 150.0, 0.2, 0.1, 900.0, 1.1, 5e5, 0.0, "B", 333.3, 0.0, SHORT),
            ("ADA-PERP", 0.45, 0.25, 1.0, 0.0, 1.2, 1e8, 0.40, "B", 0.0, 0.0, LONG),
        )
    ),
)
COINS = Trader(
    "inverse perpetuals beside the coin",
    "USD",
    equity=252_789.594906,
    cash=190_000.0,
    usual=2.0,
    lines=(
        {"id": "BTC-INVERSE", "price": 60_000.0, "contract_kind": INVERSE, "multiplier": 100.0}
        | _rates(0.05, 0.05)
        | {"currency": "BTC", "lot_size": 1.0}
        | _market(0.6, 1e6, 56_000.0)
        | _held(-1_500.0, 61_000.0, SHORT),
        {"id": "BTC-QUARTER", "price": 60_500.0, "contract_kind": INVERSE, "multiplier": 100.0}
        | _rates(0.1, 0.1)
        | {"currency": "BTC", "lot_size": 1.0}
        | _market(0.6, 5e5, 0.0, "B")
        | _held(400.0, 60_000.0, LONG),
        {"id": "BTC-SPOT", "price": 60_000.0, "lot_size": 1e-4, "fee_rate": 0.001}
        | _rates(1.0, 1.5)
        | _market(0.6, 3e3, 57_000.0)
        | _held(1.0, 58_000.0, LONG),
    ),
)
OPTIONS = Trader(
    "options by their delta",
    "USD",
    equity=300_000.0,
    cash=246_000.0,
    usual=1.5,
    lines=(
        {"id": "CALL-100", "price": 5.0, "multiplier": 100.0, "underlying_price": 100.0}
        | {"delta": 0.5, "fee_per_unit": 0.65, **_rates(1.0, 4.0)}
        | _market(0.9, 2e4)
        | _held(40.0, 4.8, LONG),
        {"id": "CALL-120", "price": 1.2, "multiplier": 100.0, "underlying_price": 100.0}
        | {"delta": 0.12, "fee_per_unit": 0.65, **_rates(1.0, 9.0)}
        | _market(1.2, 4e4, 0.8)
        | _held(-50.0, 1.5, SHORT),
        {"id": "STOCK-100", "price": 100.0, **_rates(1.0, 1.3)}
        | _market(0.3, 1e5, 93.0, "B")
        | _held(400.0, 97.0, LONG),
        {"id": "PUT-90", "price": 2.0, "multiplier": 100.0, "underlying_price": 100.0}
        | {"delta": 0.25, "fee_per_unit": 0.65, **_rates(1.0, 6.0)}
        | _market(1.0, 3e4, 2.5, "B")
        | _held(0.0, 0.0, SHORT),
    ),
)
LONDON = Trader(
    "London shares in pence",
    "GBP",
    equity=99_900.0,
    cash=64_000.0,
    usual=0.6,
    lines=(
        {"id": "VOD", "price": 75.5, "currency": "GBX", "fee_rate": 0.005}
        | _market(0.3, 1e7, 70.0)
        | _held(20_000.0, 80.0),
        {"id": "HSBA", "price": 640.0, "currency": "GBX", "fee_rate": 0.005}
        | _market(0.25, 2e6, 0.0, "B")
        | _held(5_000.0, 610.0, SHORT),
        {"id": "BARC", "price": 160.0, "currency": "GBX", "fee_min": 100.0}
        | _market(0.35, 6e6, 170.0, "B")
        | _held(-7_000.0, 165.0, SHORT),
        {"id": "SHEL", "price": 27.5, "currency": "EUR"} | _market(0.28, 4e5, 26.0) | _held(0.0),
    ),
)
WORLD = Trader(
    "shares in four currencies",
    "USD",
    equity=935_800.0,
    cash=700_000.0,
    usual=0.6,
    lines=(
        {"id": "AAPL", "price": 190.0} | _market(0.3, 6e5, 180.0) | _held(1_000.0, 150.0),
        {"id": "SAP", "price": 130.0, "currency": "EUR"}
        | _market(0.27, 6e5, 0.0, "B")
        | _held(900.0, 128.0, SHORT),
        {"id": "TOYOTA", "price": 2_500.0, "currency": "JPY", "lot_size": 100.0}
        | _market(0.25, 5e6, 2_600.0, "B")
        | _held(-6_000.0, 2_450.0, SHORT),
        {"id": "BP", "price": 480.0, "currency": "GBX"} | _market(0.3, 1e7, 450.0) | _held(0.0),
        {"id": "SIE", "price": 160.0, "currency": "EUR", "halted": True}
        | _market(0.3, 2e4)
        | _held(100.0, 150.0),
    ),
)
SHORTS = Trader(
    "shares mostly sold short",
    "USD",
    equity=400_000.0,
    cash=560_000.0,
    usual=0.7,
    lines=(
        {"id": "GM", "price": 35.0} | _market(0.4, 1e6, 38.0) | _held(-4_000.0, 36.0, SHORT),
        {"id": "F", "price": 12.0} | _market(0.4, 4e6, 0.0, "B") | _held(-9_000.0, 12.5, LONG),
        {"id": "T", "price": 16.0} | _market(0.25, 2e6, 15.0, "B") | _held(5_500.0, 17.0, LONG),
        {"id": "WBA", "price": 22.0} | _market(0.35, 2e6, 24.0) | _held(0.0, 0.0, SHORT),
    ),
)
OF_ALL_KINDS = Trader(
    "one of each",
    "EUR",
    equity=1_010_260.171386,
    cash=930_000.0,
    usual=1.5,
    lines=(
        INDEX.lines[0] | {"id": "MIX-ES"} | _rates(0.06, 0.06) | _held(5.0, 3_950.0),
        FX.lines[1] | {"id": "MIX-USDJPY"} | _held(-300_000.0, 150.0, LONG),
        COINS.lines[0] | {"id": "MIX-INVERSE"} | _held(-2_000.0, 61_000.0, SHORT),
        OPTIONS.lines[0] | {"id": "MIX-CALL"} | _held(30.0, 4.5, SHORT),
        LONDON.lines[1] | {"id": "MIX-HSBA"} | _rates(1.0, 1.0) | _held(7_000.0, 600.0, LONG),
        WORLD.lines[0] | {"id": "MIX-AAPL"} | _rates(1.0, 1.0) | _held(0.0, 0.0, SHORT),
    ),
)
TRADERS = (
    INDEX,
    COMMODITIES,
    FX,
    PERPETUALS,
    COINS,
    OPTIONS,
    LONDON,
    WORLD,
    SHORTS,
    OF_ALL_KINDS,
)
