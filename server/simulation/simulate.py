"""Backtests and simulated futures: from a checked request to its answer, without I/O."""

from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import Message
from positionsizing.v1 import simulation_service_pb2 as pb

from compute.methods import Engine
from compute.simulate import monte_carlo
from compute.simulate.backtest import Backtest, run
from compute.simulate.bootstrap import Interval, block_length, mean_interval
from compute.simulate.decision import SESSIONS_PER_YEAR
from compute.simulate.fast_settings import RunChunks
from compute.simulate.growth_ledger import growth_ledger
from compute.simulate.history import PriceHistory
from compute.simulate.honoured import Mode
from compute.simulate.measures import measures
from compute.simulate.monte_carlo import LognormalChances, lognormal_chances
from compute.simulate.overfitting import (
    BLOCKS,
    deflated_sharpe,
    overfitting_probability,
    sharpe_ratios,
)
from compute.simulate.run_state import RunState
from compute.simulate.setting import Setting
from compute.simulate.sharpe import sharpe_error
from compute.simulate.strategies import GivenSignals
from compute.waterfall.kernels import just_in_time
from server.algorithms.simulated import SimulatedAlgorithms
from server.calls.errors import invalid
from server.convert import simulation as convert
from server.convert import simulation_answer as answer
from server.convert import trials
from server.convert.backtest_setting import setting_of
from server.convert.columns import Floats, floats, set_floats
from server.convert.delisting import applied
from server.convert.risk import shock_event
from server.convert.trials import Ran, SharpeRatios
from server.jobs.progress import Progress
from server.simulation import beside
from server.simulation.kept_states import KeptState, KeptStates, keys_of


def run_backtest(
    request: pb.RunBacktestRequest,
    algorithms_file: Path | None = None,
    run_chunks: RunChunks | None = None,
    kept: KeptStates | None = None,
) -> Ran:
    """The answer to RunBacktest; the prices are in the request. Raises `Refusal`.

    algorithms_file: settings of the algorithms of method CUSTOM; None: there are none. run_chunks:
    what runs the chunks of mode FAST; None: this machine. kept: where mode EXACT keeps how far it
    is, and goes on from; None: nowhere.
    """
    history = convert.checked_history(request)
    wealth = beside.benchmark_wealth(request, history)
    stress = tuple(shock_event(x.scenario_id, 0, x.shock) for x in request.stress_scenarios)
    shared = dict[bytes, GivenSignals]()
    settings = [
        setting_of(message, place, history, stress, shared)
        for place, message in enumerate(request.settings)
    ]
    is_fast = request.mode == pb.BACKTEST_MODE_FAST
    named = [(f"settings[{place}]", item) for place, item in enumerate(settings)]
    convert.check_honoured(history, named, Mode.FAST if is_fast else Mode.EXACT)
    if is_fast:
        found = convert.ran_fast(history, settings, run_chunks, Progress().tell)
    else:
        with SimulatedAlgorithms(algorithms_file) as algorithms:
            algorithms.check_known(named)
            places = None if kept is None else _places(kept, request, history, settings, algorithms)
            found = _ran_exact(history, settings, algorithms, places)
    per_year = (
        request.sessions_per_year if request.HasField("sessions_per_year") else SESSIONS_PER_YEAR
    )
    growth = [np.log1p(np.maximum(item.returns, -1.0 + 1e-300)) for item in found]
    hashes = trials.hashes_of(request.settings, history, request.stress_scenarios)
    luck = pb.Overfitting(
        trials=len(set(hashes)) + request.trials_before,
        experiment=trials.experiment_of(request),
    )
    sharpes = _overfitting(luck, request, settings, found)
    response = pb.RunBacktestResponse(
        dates=history.dates,
        mode=pb.BACKTEST_MODE_FAST if is_fast else pb.BACKTEST_MODE_EXACT,
        overfitting=luck,
        history_hash=answer.history_hash(history),
        delistings=applied(history),
    )
    sure = mean_interval if len(settings) <= convert.SETTINGS_MAX else _mean_alone
    for setting, item, logs in zip(settings, found, growth, strict=True):
        both = min(len(logs), len(growth[0]))
        difference = None if item is found[0] else sure(logs[:both] - growth[0][:both])
        response.results.append(
            answer.result(
                setting.name,
                item,
                measures(item.returns, per_year, request.risk_free_rate),
                None if item.stage_growth is None else growth_ledger(item),
                sure(logs),
                difference,
                is_summary=request.summary_only,
            )
        )
    if wealth is not None:
        beside.tell_benchmark(response, request, wealth, growth, per_year)
    beside.tell_superiority(response, found, growth, wealth)
    tried = trials.Tried(
        luck.experiment,
        "RunBacktest",
        history.dates[0],
        history.dates[-1],
        hashes,
        sharpes.each,
        sharpes.best,
        request.trials_before,
    )
    return Ran(response, tried)


def _ran_exact(
    history: PriceHistory,
    settings: Sequence[Setting],
    algorithms: SimulatedAlgorithms,
    places: Sequence[KeptState] | None,
) -> list[Backtest]:
    """All settings in the mode EXACT, one after another; each goes on from its place."""
    kernels, progress, found = just_in_time(), Progress(), list[Backtest]()
    for i, setting in enumerate(settings):
        place = None if places is None else places[i]

        def after(state: RunState, done: int = i, place: KeptState | None = place) -> None:
            progress.tell((done + state.session / len(history.dates)) / len(settings))
            if place is not None:
                place.keep(state)

        state = None if place is None else place.found()
        more: dict[str, Any] = {"state": state, "after_session": after, "keeps_units": False}
        found.append(run(history, setting, kernels, algorithms.ask, **more))
    return found


def _places(
    kept: KeptStates,
    request: pb.RunBacktestRequest,
    history: PriceHistory,
    settings: Sequence[Setting],
    algorithms: SimulatedAlgorithms,
) -> list[KeptState]:
    """Where the state of each setting is kept."""

    def encoded(messages: Iterable[Message]) -> list[bytes]:
        return [message.SerializeToString(deterministic=True) for message in messages]

    asked = [
        algorithms.describe(chosen.name)
        if (chosen := setting.parameters.algorithm)
        and setting.parameters.method.engine is Engine.OUTSIDE
        else None
        for setting in settings
    ]
    given = encoded(request.settings), encoded(request.stress_scenarios)
    return [kept.of(key) for key in keys_of(history, *given, asked)]


def backtest_work(
    algorithms_file: Path | None, run_chunks: RunChunks | None, kept: KeptStates | None
) -> tuple[Callable[[bytes], Any], Callable[[Any], bytes]]:
    """How a worker reads and answers RunBacktest."""

    def work(request: pb.RunBacktestRequest) -> bytes:
        return run_backtest(request, algorithms_file, run_chunks, kept).encoded()

    return pb.RunBacktestRequest.FromString, work


def growth_work() -> tuple[Callable[[bytes], Any], Callable[[Any], Message]]:
    """How a worker reads and answers SimulateGrowth."""
    return pb.SimulateGrowthRequest.FromString, simulate_growth


def _mean_alone(logs: Floats) -> Interval:
    """Without an interval, which takes longer than the fast mode itself."""
    return Interval(float(logs.mean()) if len(logs) else 0.0, None, None, None, len(logs))


def _overfitting(
    message: pb.Overfitting,
    request: pb.RunBacktestRequest,
    settings: list[Setting],
    found: list[Backtest],
) -> SharpeRatios:
    """Fills in how much of the best of the settings is luck."""
    alive = min(len(item.returns) for item in found)
    excess = np.stack([item.returns[:alive] for item in found], axis=1) - request.risk_free_rate
    ratios = sharpe_ratios(excess)
    if np.isnan(ratios).all():
        return SharpeRatios((None,) * len(found), None)
    best = int(np.nanargmax(ratios))
    message.best = settings[best].name
    return tell_luck(message, excess, best)


def tell_luck(message: pb.Overfitting, returns: Floats, best: int) -> SharpeRatios:
    """Fills in how much of column `best` of returns (n, settings) is luck after `trials`."""
    ratios = sharpe_ratios(returns)
    deflated = deflated_sharpe(returns[:, best], ratios[~np.isnan(ratios)], message.trials)
    if deflated is not None:
        message.deflated_sharpe = deflated
    if returns.shape[1] > 1 and len(returns) >= 2 * BLOCKS:
        message.overfitting_probability = overfitting_probability(returns).probability
    each = tuple(None if np.isnan(ratio) else float(ratio) for ratio in ratios)
    error = sharpe_error(returns[:, best])
    return SharpeRatios(each, (float(ratios[best]), error) if error else None)


def _lognormal_chances(
    request: pb.SimulateGrowthRequest, fraction: float, levels: Floats, years: float
) -> LognormalChances | None:
    """What is known in closed form of a distribution that nothing is taken out of; else None."""
    told = request.distribution
    if request.WhichOneof("returns") != "distribution" or told.HasField("degrees_of_freedom"):
        return None
    if request.withdrawal_rate:
        return None
    return lognormal_chances(
        fraction, told.mean, told.volatility, request.risk_free_rate, levels, years
    )


def simulate_growth(request: pb.SimulateGrowthRequest) -> pb.SimulateGrowthResponse:
    """The answer to SimulateGrowth."""
    steps, paths = convert.steps_of(request), convert.paths_of(request)
    per_year = convert.steps_per_year(request)
    block = None
    if request.WhichOneof("returns") == "bootstrap":
        returns = floats(request.bootstrap.excess_returns)
        given = request.bootstrap.HasField("block_length")
        block = request.bootstrap.block_length if given else block_length(returns)
        excess = monte_carlo.bootstrap_paths(returns, steps, paths, block, request.seed)
    else:
        told = request.distribution
        mean, deviation = told.mean / per_year, told.volatility / sqrt(per_year)
        if told.HasField("degrees_of_freedom"):
            degrees = told.degrees_of_freedom
            excess = monte_carlo.student_paths(mean, deviation, degrees, steps, paths, request.seed)
        else:
            excess = monte_carlo.normal_paths(mean, deviation, steps, paths, request.seed)
    response = pb.SimulateGrowthResponse(block_length=block)
    rate, levels = request.risk_free_rate / per_year, floats(request.levels)
    withdrawal = request.withdrawal_rate / per_year
    progress = Progress()
    for place, fraction in enumerate(request.fractions):
        progress.tell((place + 1) / (len(request.fractions) + 1))  # drawing takes as long as one
        fan = monte_carlo.fan(excess, fraction, per_year, rate, levels, withdrawal=withdrawal)
        if not np.isfinite(fan.wealth).all():
            text = (
                "comes to wealth beyond 1e308 within the years; ask for fewer years or less of it"
            )
            raise invalid(f"fractions[{place}]", "OUT_OF_RANGE", text)
        chances = _lognormal_chances(request, fraction, levels, steps / per_year)
        response.fans.append(answer.fan(fraction, fan, chances))
    set_floats(response, "years", fan.time)
    return response
