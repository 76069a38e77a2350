"""Recorded decisions against a benchmark or factors: from messages to `compute.analytics`."""

from collections.abc import Mapping, Sequence

import numpy as np
from positionsizing.v1 import analytics_service_pb2 as pb

from compute.analytics.attribution import attribution
from compute.analytics.factor_attribution import factor_attribution
from compute.analytics.period_return import returns
from compute.market import Floats, Market
from server.calls.errors import invalid
from server.convert.columns import floats

CASH, UNCLASSIFIED, SPECIFIC = "cash", "unclassified", "specific"
FACTORS_MAX = 64
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
        _check(names, before, after, "benchmark.instrument_ids")
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
    first, moved = before.places(ids), _moved(ids, before, after)
    for place, share, change in zip(first, weight, moved, strict=True):
        sector = (before.sector[place] if before.sector else "") or UNCLASSIFIED
        row = groups.setdefault(sector, np.zeros(4))
        row[column] += share
        row[column + 1] += share * change
    groups.setdefault(CASH, np.zeros(4))[column] += 1.0 - weight.sum()


def _check(names: Sequence[str], before: Market, after: Market, path: str) -> None:
    for place, name in enumerate(names):
        if name not in before.index or name not in after.index:
            text = f"{name!r} has no price on a snapshot that a decision was made or valued on"
            raise invalid(f"{path}[{place}]", "NO_PRICE", text)


def attribute_factors(
    periods: Sequence[Held], factors: pb.FactorExposures
) -> pb.FactorAttribution | None:
    """Return and volatility by factor; None as of `attribute`.

    Raises `Refusal` where a factor has no price.
    """
    names = factors.factor_ids[:]
    table = floats(factors.exposures).reshape(len(factors.instrument_ids), len(names))
    row = {name: place for place, name in enumerate(factors.instrument_ids)}
    exposure, moves = np.zeros((2, len(periods), len(names)))
    specific, unclassified = np.zeros((2, len(periods)))
    for t, (ids, weight, before, after) in enumerate(periods):
        _check(names, before, after, "factors.factor_ids")
        moves[t] = _moved(names, before, after)
        earned = weight * _moved(ids, before, after)
        rows = np.array([row.get(name, -1) for name in ids], dtype=np.int64)
        known = rows >= 0
        exposure[t] = np.einsum("i,ik->k", weight[known], table[rows[known]])
        specific[t] = earned[known].sum() - exposure[t] @ moves[t]
        unclassified[t] = earned[~known].sum()
    found = factor_attribution(exposure, moves, specific, unclassified)
    if found is None:
        return None
    message = pb.FactorAttribution(portfolio_return=found.portfolio, volatility=found.volatility)
    for place, name in enumerate([*names, SPECIFIC, UNCLASSIFIED]):
        effect = message.effects.add(factor=name, effect=found.effect[place])
        if place < len(names):
            effect.exposure = found.exposure[place]
        if found.deviation is not None and found.correlation is not None:
            effect.volatility = found.deviation[place]
            effect.correlation = found.correlation[place]
            effect.risk = effect.volatility * effect.correlation
    return message


def _moved(ids: Sequence[str], before: Market, after: Market) -> Floats:
    """Simple returns between two markets."""
    return returns(before, after, before.places(ids), after.places(ids))


def factors_problem(factors: pb.FactorExposures) -> tuple[str, str, str] | None:
    """What is wrong with exposures by themselves: path, reason, words."""
    count = len(factors.factor_ids)
    if not 1 <= count <= FACTORS_MAX:
        text = f"has {count} entries; 1 to {FACTORS_MAX} are accepted"
        return "factors.factor_ids", "OUT_OF_RANGE", text
    for name in ("factor_ids", "instrument_ids"):
        if len(set(getattr(factors, name))) != len(getattr(factors, name)):
            return f"factors.{name}", "DUPLICATE", "names one twice"
    cells = count * len(factors.instrument_ids)
    if len(factors.exposures) != cells:
        text = f"has {len(factors.exposures)} entries; instruments times factors are {cells}"
        return "factors.exposures", "LENGTH", text
    return None


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
