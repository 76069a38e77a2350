"""Recorded decisions against a benchmark: from messages to `compute.analytics.attribution`."""

from collections.abc import Mapping, Sequence

import numpy as np
from positionsizing.v1 import analytics_service_pb2 as pb

from compute.analytics.attribution import attribution
from compute.market import Floats, Market
from server.convert.columns import floats
from server.errors import invalid

CASH, UNCLASSIFIED = "cash", "unclassified"
Held = tuple[Sequence[str], Floats, Market, Market]
"""A period: instruments, their weights in the portfolio, the markets it begins and ends with."""


def attribute(periods: Sequence[Held], benchmark: pb.BenchmarkWeights) -> pb.Attribution | None:
    """Allocation and selection by sector; what is not invested is the group `cash`.

    None where there are no periods, or a period lost everything. Raises `Refusal` where an
    instrument of the benchmark has no price.
    """
    names, weights = benchmark.instrument_ids[:], floats(benchmark.weights)
    tables: list[dict[str, Floats]] = []
    for ids, weight, before, after in periods:
        groups: dict[str, Floats] = {}
        _add(groups, 0, ids, weight, before, after)
        _check(names, before, after)
        _add(groups, 2, names, weights, before, after)
        tables.append(groups)
    order = [*sorted({name for table in tables for name in table} - {CASH}), CASH]
    nothing = np.zeros(4)
    columns = np.array([[table.get(name, nothing) for name in order] for table in tables])
    found = attribution(*np.moveaxis(columns, 2, 0)) if len(columns) else None
    if found is None:
        return None
    message = pb.Attribution(portfolio_return=found.portfolio, benchmark_return=found.benchmark)
    mean = columns.mean(axis=0)
    for place, name in enumerate(order):
        message.groups.add(
            group=name,
            allocation=found.allocation[place],
            selection=found.selection[place],
            weight=mean[place, 0],
            benchmark_weight=mean[place, 2],
        )
    return message


def _add(
    groups: dict[str, Floats],
    column: int,
    ids: Sequence[str],
    weight: Floats,
    before: Market,
    after: Market,
) -> None:
    """Adds weights to `column` of each group and contributions to the next, cash the rest."""
    first, last = before.places(ids), after.places(ids)
    moved = after.price[last] / before.price[first] - 1.0
    for place, share, change in zip(first, weight, moved, strict=True):
        sector = (before.sector[place] if before.sector else "") or UNCLASSIFIED
        row = groups.setdefault(sector, np.zeros(4))
        row[column] += share
        row[column + 1] += share * change
    groups.setdefault(CASH, np.zeros(4))[column] += 1.0 - weight.sum()


def _check(names: Sequence[str], before: Market, after: Market) -> None:
    for place, name in enumerate(names):
        if name not in before.index or name not in after.index:
            text = f"{name!r} has no price on a snapshot that a decision was made or valued on"
            raise invalid(f"benchmark.instrument_ids[{place}]", "NO_PRICE", text)


def benchmark_problem(benchmark: pb.BenchmarkWeights) -> tuple[str, str, str] | None:
    """What is wrong with a benchmark by itself: path, reason, words."""
    names: Mapping[str, int] = {name: i for i, name in enumerate(benchmark.instrument_ids)}
    if len(benchmark.weights) != len(benchmark.instrument_ids):
        text = f"has {len(benchmark.weights)} entries for {len(benchmark.instrument_ids)} ids"
        return "benchmark.weights", "LENGTH", text
    if len(names) != len(benchmark.instrument_ids):
        return "benchmark.instrument_ids", "DUPLICATE", "names an instrument twice"
    if sum(benchmark.weights) > 1.0 + 1e-9:
        text = f"add up to {sum(benchmark.weights):.6g}; at most 1 is accepted, the rest is cash"
        return "benchmark.weights", "OUT_OF_RANGE", text
    return None
