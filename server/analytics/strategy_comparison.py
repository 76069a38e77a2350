"""CompareStrategies: the strategies of portfolios, and the best of them against other sizes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import simulation_service_pb2

from compute.analytics.effectiveness import chosen_growth
from compute.analytics.superior import DatedOutcome, Superiority, superior
from server.analytics.analysis import Decided, valued
from server.convert.simulation_answer import interval
from server.market.price_adjustment import Marks


@dataclass(frozen=True)
class Strategy:
    """What came of the decisions of a strategy in a portfolio."""

    portfolio_id: str
    strategy_id: str
    outcomes: Sequence[DatedOutcome]
    left_out: Counter[str]
    unpriced_line_count: int


def strategies_of(
    portfolio_id: str, decided: Sequence[Decided], marks: Marks, end: str
) -> Iterator[Strategy]:
    """Every strategy of a portfolio's decisions, by name, each valued by itself.

    end: the snapshot of the last decisions. Raises `Refusal` where a price is missing.
    """
    for strategy_id in sorted({item.strategy_id for item in decided}):
        found = valued([item for item in decided if item.strategy_id == strategy_id], marks, end)
        snapshots = [marks.snapshots[line.decided.snapshot_id] for line in found.lines]
        outcomes = [
            DatedOutcome(snapshot.as_of_time.date(), line.outcome)
            for snapshot, line in zip(snapshots, found.lines, strict=True)
        ]
        count = found.unpriced.total()
        yield Strategy(portfolio_id, strategy_id, outcomes, found.left_out, count)


def compared(strategies: Sequence[Strategy]) -> pb.CompareStrategiesResponse:
    """The answer of all strategies."""
    tests = superior([item.outcomes for item in strategies])
    return pb.CompareStrategiesResponse(
        strategies=map(_strategy, strategies),
        days=tests[0].days,
        tests=map(_test, tests),
    )


def _strategy(item: Strategy) -> pb.ComparedStrategy:
    growth = chosen_growth([one.outcome for one in item.outcomes])
    is_known = len(growth) > 0 and bool(np.isfinite(growth).all())
    return pb.ComparedStrategy(
        portfolio_id=item.portfolio_id,
        strategy_id=item.strategy_id,
        decisions=len(item.outcomes),
        left_out=[
            simulation_service_pb2.NamedCount(name=name, count=count)
            for name, count in sorted(item.left_out.items())
        ],
        growth=float(growth.sum()) if is_known else None,
        unpriced_line_count=item.unpriced_line_count,
    )


def _test(found: Superiority) -> pb.SuperiorityTest:
    return pb.SuperiorityTest(
        benchmark=found.benchmark,
        strategies_compared=found.compared,
        best=found.best,
        difference=None if found.difference is None else interval(found.difference),
        superior_ability_p=found.consistent_p,
        reality_check_p=found.reality_check_p,
        undefined_reason=found.reason,
    )
