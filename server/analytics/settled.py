"""What carrying decisions out cost, by the fills that were settled: shortfall and impact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import numpy as np
from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import sizing_service_pb2

from compute.analytics.impact import impact
from compute.analytics.period_return import gains
from compute.analytics.shortfall import shortfall
from compute.market import Floats, Integers, Market
from compute.optimize.time_limit import checkpoint
from compute.waterfall.trading_costs import DAYS_PER_YEAR
from server.analytics.analysis import Decided, joined
from server.convert.columns import floats, integers
from server.market.price_adjustment import Marks
from server.portfolios.fills import Accounts, Fill


@dataclass(frozen=True)
class Reported:
    """Fills of a decision, and when they were booked."""

    fills: sizing_service_pb2.Fills
    time: datetime


Fills = Mapping[UUID, Sequence[Reported]]


def add_shortfall(
    response: pb.AnalyzeDecisionsResponse,
    decided: Sequence[Decided],
    marks: Marks,
    fills: Fills,
    end: str,
) -> None:
    """Adds up the shortfall of every decision by the price at the next one."""
    total = response.shortfall
    slippage, participation = list[Floats](), list[Floats]()
    for place, item in enumerate(decided):
        checkpoint()
        later = decided[place + 1].snapshot_id if place + 1 < len(decided) else end
        before, after = marks.markets[item.snapshot_id], marks.later(item.snapshot_id, later)
        sizes = item.answer.sizes
        ids = sizes.instrument_ids[:]
        first, last = before.places(ids), after.places(ids)
        known = (first >= 0) & (last >= 0)
        unit = np.where(known, floats(sizes.lot_size), 0.0)
        filled, dearer, fee = _filled(item, fills.get(item.decision_id, ()), unit, marks)
        found = shortfall(
            integers(sizes.trade_lots).astype(np.float64) * unit,
            before.price[first],
            filled,
            dearer,
            np.where(known, gains(before, after, first, last), 0.0),
            fee,
        )
        part = _slippage(filled, dearer, first, before)
        slippage.append(part[0])
        participation.append(part[1])
        total.execution += found.execution
        total.opportunity += found.opportunity
        total.fees += found.fees
        total.notional += found.notional
    if total.notional > 0.0:
        whole = total.execution + total.opportunity + total.fees
        total.rate = whole / total.notional
    fitted = impact(joined(slippage), joined(participation))
    if fitted is not None:
        response.impact.CopyFrom(
            pb.ImpactEstimate(
                coefficient=fitted.coefficient, error=fitted.error, trades=fitted.trades
            )
        )


def _slippage(
    filled: Floats, dearer: Floats, place: Integers, market: Market
) -> tuple[Floats, Floats]:
    """Slippage in daily volatilities and quantity over a day's volume, of the fills with both.

    Half the spread is taken off the slippage, a part of the exposure as the spread is: sizing
    charges it beside the impact.
    """
    volatility, volume = market.volatility, market.average_daily_volume
    if volatility is None or volume is None:
        return np.zeros(0), np.zeros(0)
    known = (place >= 0) & (filled != 0.0)
    rows, at = np.flatnonzero(known), place[known]
    daily = volatility[at] / np.sqrt(DAYS_PER_YEAR)
    usable = (daily > 0.0) & (volume[at] > 0.0)
    rows, at, daily = rows[usable], at[usable], daily[usable]
    moved = dearer[rows] / (np.abs(filled[rows]) * market.price[at]) - market.half_spread[at]
    return moved / daily, np.abs(filled[rows]) / volume[at]


def _filled(
    item: Decided, reports: Sequence[Reported], unit: Floats, marks: Marks
) -> tuple[Floats, Floats, float]:
    """Units filled, what they cost beyond the market's price, (n,) each, and all fees.

    Units and prices are those of the decision, whatever has been split since; money is base
    currency, at the rate of each fill.
    """
    ids, market = item.answer.sizes.instrument_ids, marks.markets[item.snapshot_id]
    place = {name: i for i, name in enumerate(ids) if name in market.index}
    units, dearer, fees = np.zeros(len(ids)), np.zeros(len(ids)), 0.0
    for report in reports:
        steps = marks.recorded(item.snapshot_id, report.time)
        for entry, name in enumerate(report.fills.instrument_ids):
            if (i := place.get(name)) is not None:
                fill, lot = Fill.of(report.fills, entry, market, Accounts("")), unit[i]
                if (step := steps.get(name)) is not None and lot:
                    lot = (step.lot_size or lot) / step.units
                    fill = replace(fill, price=fill.price / step.quote)
                units[i] += fill.lots * lot
                dearer[i] += fill.lots * lot * fill.dearer(market)
                fees += fill.fee
    return units, dearer, fees
