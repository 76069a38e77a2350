"""What backtests and simulated futures found, in the contract's form."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from positionsizing.v1 import simulation_service_pb2 as pb
from positionsizing.v1 import types_pb2

from compute.limits.policy import LimitKind
from compute.market import Floats
from compute.simulate.backtest import Backtest
from compute.simulate.bootstrap import Interval
from compute.simulate.calendar_returns import calendar_returns
from compute.simulate.growth_ledger import GrowthLedger
from compute.simulate.history import PriceHistory
from compute.simulate.measures import Measures
from compute.simulate.monte_carlo import Fan, LognormalChances
from compute.waterfall.layout import Stage
from server.convert.columns import set_floats
from server.convert.decision import STAGE_NUMBERS


def performance(found: Measures) -> pb.PerformanceMeasures:
    """Measures; those that are not defined stay unset."""
    known = {key: value for key, value in asdict(found).items() if value is not None}
    return pb.PerformanceMeasures(**known)


def by_calendar(dates: Sequence[str], equity: Floats) -> list[pb.CalendarReturn]:
    """Months and years of a path."""
    return [
        pb.CalendarReturn(
            year=item.year, month=item.month, value=item.value, undefined_reason=item.reason
        )
        for item in calendar_returns(dates, equity)
    ]


def result(
    name: str,
    backtest: Backtest,
    measures: Measures,
    ledger: GrowthLedger | None,
    growth: Interval,
    difference: Interval | None,
    *,
    is_summary: bool,
) -> pb.BacktestResult:
    """One setting's result."""
    message = pb.BacktestResult(
        name=name,
        measures=performance(measures),
        growth=interval(growth),
        growth_difference=None if difference is None else interval(difference),
        stage_growth=None if ledger is None else stage_growth(ledger),
        account=pb.AccountTotals(
            commission=backtest.account.commission,
            slippage=backtest.account.slippage,
            dividends=backtest.account.dividends,
            interest=backtest.account.interest,
            borrow=backtest.account.borrow,
            delistings=backtest.account.delistings,
            fractions=backtest.account.fractions,
        ),
        delisted_positions=backtest.account.delisted,
        trades=backtest.trades,
        decisions=backtest.decisions,
        scaled_fills=backtest.scaled_fills,
        refused=_counts(backtest.refused),
        bindings=_counts(
            {LimitKind(kind).name: count for kind, count in backtest.bindings.items()}
        ),
        refused_lines=_counts(backtest.refused_lines),
        reducing_decisions=backtest.reducing,
        ruin_date="" if backtest.ruined is None else backtest.dates[backtest.ruined],
    )
    if not is_summary:
        for column in ("equity", "cash", "gross_weight", "turnover"):
            set_floats(message, column, getattr(backtest, column))
        message.calendar_returns.extend(by_calendar(backtest.dates, backtest.equity))
    return message


def _counts(counts: dict[str, int]) -> list[pb.NamedCount]:
    """Counts, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [pb.NamedCount(name=name, count=count) for name, count in ordered]


def interval(found: Interval) -> pb.MeanInterval:
    """A mean with its interval."""
    return pb.MeanInterval(
        mean=found.mean,
        low=found.low,
        high=found.high,
        t_statistic=found.t_statistic,
        observations=found.observations,
    )


def stage_growth(ledger: GrowthLedger) -> pb.StageGrowth:
    """The growth ledger."""
    first = ledger.first_stage
    return pb.StageGrowth(
        first_stage=types_pb2.SizingStage.ValueType(STAGE_NUMBERS[first]),
        start=ledger.start if math.isfinite(ledger.start) else 0.0,
        stages=[
            types_pb2.SizingStage.ValueType(number)
            for number in STAGE_NUMBERS[first + 1 : len(Stage) + 1]
        ],
        steps=ledger.step,
        execution=ledger.execution,
        total=ledger.total,
    )


def fan(fraction: float, found: Fan, chances: LognormalChances | None) -> pb.GrowthFan:
    """One fraction's futures, and what is known of them in closed form."""
    message = pb.GrowthFan(
        fraction=fraction,
        growth=found.growth if math.isfinite(found.growth) else None,
        drawdown_median=found.drawdown[0],
        drawdown_high=found.drawdown[1],
        under_water=found.under_water,
        ran_out=found.ran_out,
    )
    set_floats(message, "wealth", np.ascontiguousarray(found.wealth).ravel())
    set_floats(message, "fell_below", found.fell_below)
    if chances is not None:
        message.halves_before_doubling = chances.halves_before_doubling
        set_floats(message, "fell_below_continuous", chances.fell_below)
    return message


def history_hash(history: PriceHistory) -> str:
    """SHA-256 of the prices, as hexadecimal digits."""
    columns = (history.close, history.open, history.dividend, history.split)
    data = b"".join(b"-" if column is None else column.tobytes() for column in columns)
    names = "\0".join((*history.dates, *history.instrument_ids)).encode()
    ends = [(item.session, item.instrument, item.price) for item in history.delistings]
    data += repr(sorted(ends)).encode() if ends else b""
    return hashlib.sha256(names + data).hexdigest()
