"""What settings of a backtest are compared with: a benchmark, and the luck of the best of them."""

from collections.abc import Iterator, Sequence

import numpy as np
from positionsizing.v1 import simulation_service_pb2 as pb

from compute.market import Floats
from compute.simulate.backtest import Backtest
from compute.simulate.benchmark import buy_and_hold
from compute.simulate.bootstrap import mean_interval
from compute.simulate.history import PriceHistory
from compute.simulate.measures import measures
from compute.simulate.superiority import superiority
from server.calls.errors import FieldViolation, invalid
from server.convert import simulation_answer as answer
from server.convert.columns import set_floats

SESSIONS_MIN = 60
"""Fewer say nothing of a mean, see `mean_interval`."""
SETTINGS_MAX = 64
"""More take longer to compare than the fast mode does to run them."""
EQUAL_WEIGHTS = "equal weights"


def benchmark_violations(request: pb.RunBacktestRequest) -> Iterator[FieldViolation]:
    """What is wrong with the benchmark by itself."""
    given = request.benchmark
    if request.HasField("benchmark") and not (given.instrument_id or given.equal_weights):
        text = "give an instrument of the history, or equal_weights"
        yield FieldViolation("benchmark.instrument_id", "MISSING", text)


def benchmark_wealth(request: pb.RunBacktestRequest, history: PriceHistory) -> Floats | None:
    """Wealth of the benchmark, (T,); None without one. Raises `Refusal`."""
    if not request.HasField("benchmark"):
        return None
    name = request.benchmark.instrument_id or None
    path = "benchmark.instrument_id" if name else "benchmark.equal_weights"
    try:
        return buy_and_hold(history, name)
    except ValueError as error:
        is_known = name is None or name in history.instrument_ids
        raise invalid(path, "MISSING" if is_known else "UNKNOWN_INSTRUMENT", str(error)) from error


def tell_benchmark(
    response: pb.RunBacktestResponse,
    request: pb.RunBacktestRequest,
    wealth: Floats,
    growth: Sequence[Floats],
    sessions_per_year: float,
) -> None:
    """Fills in the benchmark, and how surely the log growth of each setting differs from its."""
    returns = wealth[1:] / wealth[:-1] - 1.0
    found = pb.BenchmarkResult(
        name=request.benchmark.instrument_id or EQUAL_WEIGHTS,
        measures=answer.performance(measures(returns, sessions_per_year, request.risk_free_rate)),
        calendar_returns=answer.by_calendar(response.dates, wealth),
    )
    if not request.summary_only:
        set_floats(found, "wealth", wealth)
    response.benchmark.CopyFrom(found)
    if len(growth) > SETTINGS_MAX:
        return
    beside = np.log(wealth[1:] / wealth[:-1])
    for result, logs in zip(response.results, growth, strict=True):
        difference = mean_interval(logs - beside[: len(logs)])
        result.benchmark_difference.CopyFrom(answer.interval(difference))


def tell_superiority(
    response: pb.RunBacktestResponse,
    found: Sequence[Backtest],
    growth: Sequence[Floats],
    wealth: Floats | None,
) -> None:
    """Fills in whether the best setting is better than the benchmark, or else than the first."""
    alive = [logs for item, logs in zip(found, growth, strict=True) if item.ruined is None]
    if len(growth) > SETTINGS_MAX or not alive or len(alive[0]) < SESSIONS_MIN:
        return
    if wealth is not None:
        base, compared = np.log(wealth[1:] / wealth[:-1]), alive
    elif found[0].ruined is None:
        base, *compared = alive
    else:
        return
    if len(compared) < 2:
        return
    tested = superiority(np.stack(compared, axis=1) - base[:, None])
    if tested is not None:
        response.superior_ability_p, response.reality_check_p = tested
