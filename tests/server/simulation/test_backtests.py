"""Backtests and simulated futures over gRPC."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest
from positionsizing.v1 import (
    history_service_pb2,
    limits_pb2,
    parameter_service_pb2,
    sizing_pb2,
    types_pb2,
)
from positionsizing.v1 import simulation_service_pb2 as pb

from compute.simulate.superiority import superiority
from tests.server.support.service_client import Client, new_id, refusal

PRICES = Path(__file__).parents[3] / "examples" / "prices.csv"
LONG_S = 600.0


def table(sessions: int = 300) -> pb.PriceTable:
    with PRICES.open() as file:
        rows = list(csv.reader(file))[: sessions + 1]
    return pb.PriceTable(
        dates=[row[0] for row in rows[1:]],
        instrument_ids=rows[0][1:],
        close=[float(cell) for row in rows[1:] for cell in row[1:]],
    )


def momentum(name: str, fraction: float, sessions: int = 60) -> pb.BacktestSetting:
    return pb.BacktestSetting(
        name=name,
        mean_return=pb.MeanReturnStrategy(sessions=sessions),
        parameters=parameter_service_pb2.SizingParameters(kelly_fraction=fraction),
        limits=limits_pb2.Limits(weight_max=0.1, leverage_max=1.0, allow_short=True),
        costs=pb.TradingCosts(commission_rate=0.0005),
    )


async def test_settings_are_measured_compared_and_deflated(client: Client) -> None:
    request = pb.RunBacktestRequest(
        prices=table(),
        settings=[momentum("full", 1.0), momentum("half", 0.5)],
        trials_before=8,
        experiment=new_id("experiment"),
    )
    answer = await client.simulation.RunBacktest(request, timeout=LONG_S)
    assert len(answer.dates) == 300
    full, half = answer.results
    assert (full.name, half.name) == ("full", "half")
    for result in (full, half):
        equity = np.array(result.equity)
        assert equity[0] == 1e6
        assert result.decisions == 299 - 60
        assert result.trades > 0
        assert result.account.commission > 0
        assert result.measures.total_return == pytest.approx(equity[-1] / equity[0] - 1, rel=1e-12)
        logs = np.diff(np.log(equity))
        known = 4.0 * logs.var(ddof=1) / logs.mean() ** 2
        assert result.measures.evidence_periods == pytest.approx(known, rel=1e-9)
        scale = result.measures.sharpe_autocorrelated / result.measures.sharpe
        moved = equity[1:] / equity[:-1] - 1.0
        moved = moved - moved.mean()
        rho = [moved[k:] @ moved[:-k] / (moved @ moved) for k in range(1, 6)]  # 4 (299/100)^(2/9)
        within = 252 + 2 * sum((252 - k) * rho[k - 1] for k in range(1, 6))
        assert scale == pytest.approx(np.sqrt(252 / within), rel=1e-9)
        ledger = result.stage_growth
        parts = ledger.start + sum(ledger.steps) + ledger.execution
        assert parts == pytest.approx(ledger.total, abs=1e-12)
        assert ledger.total == pytest.approx(np.log(equity[-1] / equity[0]), abs=1e-12)
        assert ledger.stages[-1] == types_pb2.SIZING_STAGE_LOTS
        assert result.growth.low < result.growth.mean < result.growth.high
        assert max(result.gross_weight) < 1.2
    assert not full.HasField("growth_difference")
    difference = half.growth_difference
    assert difference.observations == 299
    logs_half, logs_full = (np.diff(np.log(result.equity)) for result in (half, full))
    assert difference.mean == pytest.approx((logs_half - logs_full).mean(), rel=1e-9)
    assert difference.low < difference.mean < difference.high
    assert answer.overfitting.trials == 10
    assert 0.0 <= answer.overfitting.overfitting_probability <= 1.0
    again = await client.simulation.RunBacktest(request, timeout=LONG_S)
    assert again == answer


async def test_work_that_is_followed_tells_how_far_it_is_and_ends_with_its_answer(
    client: Client,
) -> None:
    request = pb.RunBacktestRequest(prices=table(150), settings=[momentum("full", 1.0, 20)] * 3)
    call = client.simulation.FollowSimulation(
        pb.FollowSimulationRequest(run_backtest=request), timeout=LONG_S
    )
    told = [answer async for answer in call]
    assert told[0] == pb.FollowSimulationResponse(), "nothing is known before it begins"
    assert told[-1].run_backtest == await client.simulation.RunBacktest(request, timeout=LONG_S)
    parts = [answer.progress for answer in told[1:-1]]
    assert parts == sorted(set(parts))
    assert all(0.0 < part <= 1.0 for part in parts)
    growth = pb.SimulateGrowthRequest(fractions=[1.0], paths=100, years=1.0)
    growth.distribution.mean, growth.distribution.volatility = 0.05, 0.2
    work = pb.FollowSimulationRequest(simulate_growth=growth)
    *_, last = [answer async for answer in client.simulation.FollowSimulation(work, timeout=LONG_S)]
    assert last.simulate_growth == await client.simulation.SimulateGrowth(growth, timeout=LONG_S)


async def test_what_is_wrong_with_followed_work_is_named_as_its_method_does(client: Client) -> None:
    none = client.simulation.FollowSimulation(pb.FollowSimulationRequest())
    assert (await refusal(none.read())).fields == {"run_backtest": "MISSING"}
    wrong = pb.RunBacktestRequest(prices=table(30), settings=[momentum("a", 0.5, 5)])
    wrong.settings[0].cash = -1.0
    call = client.simulation.FollowSimulation(pb.FollowSimulationRequest(run_backtest=wrong))
    assert "settings[0].cash" in (await refusal(call.read())).fields


async def test_signals_of_the_caller_are_sized_on_their_dates(client: Client) -> None:
    prices = table(20)
    given = pb.GivenSignals(
        dates=[prices.dates[3], prices.dates[3], prices.dates[10]],
        signals=sizing_pb2.SignalBatch(
            instrument_ids=["KO", "AAPL", "KO"],
            side=[types_pb2.SIDE_LONG, types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT],
            win_probability=[0.6, 0.6, 0.6],
            payoff=[1.0, 1.0, 1.0],
        ),
    )
    setting = pb.BacktestSetting(
        given=given,
        limits=limits_pb2.Limits(weight_max=0.1),
        fill_at=pb.FILL_AT_NEXT_CLOSE,
    )
    request = pb.RunBacktestRequest(prices=prices, settings=[setting])
    (result,) = (await client.simulation.RunBacktest(request, timeout=LONG_S)).results
    assert result.decisions == 2
    gross = np.array(result.gross_weight)
    assert (gross[:4] == 0).all()
    assert gross[4] == pytest.approx(0.2, abs=0.02)
    # On the later date KO alone is sized: no short positions, so it is sold; AAPL stays.
    assert gross[11] == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda r: r.ClearField("prices"), "prices"),
        (lambda r: r.ClearField("settings"), "settings"),
        (lambda r: r.settings[0].ClearField("mean_return"), "settings[0].mean_return"),
        (lambda r: setattr(r.settings[0].costs, "slippage_rate", 0.9),
         "settings[0].costs.slippage_rate"),
        (lambda r: setattr(r.settings[0], "cash", float("nan")), "settings[0].cash"),
        (lambda r: setattr(r.settings[0].parameters, "method", types_pb2.SIZING_METHOD_JOINT),
         "settings[0].parameters.method"),
        (lambda r: r.settings[0].parameters.market_age_max.FromSeconds(60),
         "settings[0].parameters.market_age_max"),
        (lambda r: r.settings[0].parameters.condition_rules.rules.add(
            name="storm", condition_id="vix", enter=30.0, leave=25.0),
         "settings[0].parameters.condition_rules"),
        (lambda r: r.settings[0].parameters.schedule.rows.add(name="Fed", time_zone="UTC"),
         "settings[0].decision_time"),
        (lambda r: setattr(r.settings[0], "decision_time", "4 pm"), "settings[0].decision_time"),
        (lambda r: setattr(r.settings[0].estimates, "sessions", 5),
         "settings[0].estimates.sessions"),
        (lambda r: setattr(r.settings[0].estimates, "estimator", 8),
         "settings[0].estimates.estimator"),
        (lambda r: setattr(r.settings[0].limits, "currency", "EUR"), "settings[0].limits.currency"),
        (lambda r: setattr(r.settings[0].limits, "weight_max", -1.0),
         "settings[0].limits.weight_max"),
        (lambda r: r.prices.close.__setitem__(7, -3.0), "prices.close[7]"),
        (lambda r: r.prices.close.__setitem__(slice(60, 80), [0.0] * 20), "prices.close[60]"),
        (lambda r: [r.prices.close.__setitem__(20 * day + 4, 0.0) for day in range(10)],
         "prices.instrument_ids[4]"),
        (lambda r: r.prices.CopyFrom(table(1)), "prices.dates"),
        (lambda r: r.prices.dates.__setitem__(3, "yesterday"), "prices.dates[3]"),
        (lambda r: r.prices.dates.__setitem__(3, r.prices.dates[2]), "prices.dates"),
        (lambda r: r.prices.close.pop(), "prices.close"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named_by_its_path(client: Client, change, path: str) -> None:  # type: ignore[no-untyped-def]
    request = pb.RunBacktestRequest(prices=table(10), settings=[momentum("a", 0.5, 2)])
    change(request)
    refused = await refusal(client.simulation.RunBacktest(request, timeout=LONG_S))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert path in refused.fields


async def test_a_backtest_ends_with_its_deadline(client: Client) -> None:
    request = pb.RunBacktestRequest(prices=table(700), settings=[momentum("a", 0.5)] * 64)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await client.simulation.RunBacktest(request, timeout=1.5)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_every_fraction_meets_the_same_luck(client: Client) -> None:
    request = pb.SimulateGrowthRequest(
        distribution=pb.NormalReturns(mean=0.05, volatility=0.15),
        fractions=[1.1111, 2.2222],
        levels=[0.7],
        risk_free_rate=0.06,
        seed=5,
    )
    answer = await client.simulation.SimulateGrowth(request, timeout=LONG_S)
    half, full = answer.fans
    assert len(half.wealth) == 5 * len(answer.years)
    # Half Kelly of these numbers grows 10.2 % a year and loses 30 % within five years in 5.8 %.
    assert half.growth == pytest.approx(0.1017, abs=0.006)
    assert half.fell_below[0] == pytest.approx(0.0585, abs=0.02)
    assert full.fell_below[0] > 4 * half.fell_below[0]
    assert half.fell_below_continuous[0] == pytest.approx(0.0584840356, rel=1e-3)
    # Between the steps wealth falls a little further.
    assert half.fell_below_continuous[0] > half.fell_below[0] - 0.01
    assert half.halves_before_doubling < full.halves_before_doubling < 1 / 3
    assert half.drawdown_median == pytest.approx(0.243, abs=0.02)


async def test_withdrawals_make_the_first_years_count(client: Client) -> None:
    """Nearly certain returns of 10 % a year, a fifth of the start taken out before each."""
    request = pb.SimulateGrowthRequest(
        distribution=pb.NormalReturns(mean=0.1, volatility=1e-6),
        fractions=[1.0, -1.0],
        steps_per_year=1,
        years=5.0,
        paths=100,
        withdrawal_rate=0.2,
    )
    answer = await client.simulation.SimulateGrowth(request, timeout=LONG_S)
    wealth, path = 1.0, [1.0]
    for _ in range(5):
        wealth = max(wealth - 0.2, 0.0) * 1.1
        path.append(wealth)
    long, short = answer.fans
    count = len(answer.years)
    assert list(long.wealth[2 * count : 3 * count]) == pytest.approx(path, abs=1e-4)
    assert (long.ran_out, short.ran_out) == (0.0, 1.0)
    assert long.growth == pytest.approx(np.log(path[-1]) / 5, abs=1e-4)
    assert not short.HasField("growth")
    assert not long.HasField("halves_before_doubling")
    request.withdrawal_rate = -0.1
    refused = await refusal(client.simulation.SimulateGrowth(request, timeout=LONG_S))
    assert refused.fields == {"withdrawal_rate": "OUT_OF_RANGE"}


async def test_futures_from_a_history_choose_their_blocks(client: Client) -> None:
    closes = np.array(table(300).close).reshape(300, 20)[:, 0]
    returns = closes[1:] / closes[:-1] - 1
    request = pb.SimulateGrowthRequest(
        bootstrap=pb.BootstrapReturns(excess_returns=returns), fractions=[0.5], paths=200, years=1
    )
    answer = await client.simulation.SimulateGrowth(request, timeout=LONG_S)
    assert answer.block_length >= 1
    assert not answer.fans[0].HasField("halves_before_doubling")
    request.fractions[:] = [float("nan")]
    refused = await refusal(client.simulation.SimulateGrowth(request, timeout=LONG_S))
    assert "fractions[0]" in refused.fields


async def test_the_fast_mode_agrees_and_takes_many_settings(client: Client) -> None:
    names = [momentum(f"{n}", 0.1 + 0.01 * n) for n in range(70)]
    request = pb.RunBacktestRequest(
        prices=table(120),
        settings=names,
        mode=pb.BACKTEST_MODE_FAST,
        summary_only=True,
        experiment=new_id("experiment"),
    )
    fast = await client.simulation.RunBacktest(request, timeout=LONG_S)
    assert fast.mode == pb.BACKTEST_MODE_FAST
    assert len(fast.results) == 70
    assert not fast.results[0].HasField("stage_growth")
    assert fast.overfitting.trials == 70
    exact = pb.RunBacktestRequest(prices=request.prices, settings=names[:2])
    slow = await client.simulation.RunBacktest(exact, timeout=LONG_S)
    assert slow.mode == pb.BACKTEST_MODE_EXACT
    for one, other in zip(fast.results, slow.results, strict=False):
        assert one.measures.total_return == pytest.approx(other.measures.total_return, abs=2e-4)
        assert one.decisions == other.decisions


async def test_what_the_fast_mode_does_not_know_is_named(client: Client) -> None:
    setting = momentum("tail", 0.5)
    setting.limits.joint.cvar_max = 0.1
    request = pb.RunBacktestRequest(
        prices=table(40), settings=[momentum("plain", 0.5), setting], mode=pb.BACKTEST_MODE_FAST
    )
    found = await refusal(client.simulation.RunBacktest(request, timeout=LONG_S))
    assert found.fields == {"settings[1].limits.joint.cvar_max": "NOT_APPLICABLE"}
    many = pb.RunBacktestRequest(prices=table(40), mode=pb.BACKTEST_MODE_FAST)
    many.settings.extend([momentum("plain", 0.5)] * 65)
    found = await refusal(client.simulation.RunBacktest(many, timeout=LONG_S))
    assert found.fields == {"summary_only": "MISSING"}
    many.mode = pb.BACKTEST_MODE_EXACT
    found = await refusal(client.simulation.RunBacktest(many, timeout=LONG_S))
    assert found.fields == {"settings": "OUT_OF_RANGE"}


async def test_the_joint_method_is_backtested_on_estimates_from_the_past(client: Client) -> None:
    joint, alone = momentum("joint", 0.5, 20), momentum("alone", 0.5, 20)
    joint.parameters.method = types_pb2.SIZING_METHOD_JOINT
    joint.estimates.sessions = 60
    joint.limits.joint.volatility_max = 0.004
    request = pb.RunBacktestRequest(prices=table(75), settings=[joint, alone])
    answer = await client.simulation.RunBacktest(request, timeout=LONG_S)
    found, plain = answer.results
    # Decisions before there are 60 returns are refused and counted; none is made without estimates.
    assert {item.name: item.count for item in found.refused} == {"TOO_FEW_SESSIONS": 40}
    assert found.decisions == 75 - 1 - 60
    assert found.trades > 0
    assert plain.decisions == 75 - 1 - 20
    assert {item.name for item in found.bindings} & {"VOLATILITY_MAX", "WEIGHT_MAX"}


def ends_early(sessions: int = 60, last: int = 40) -> pb.PriceTable:
    """Real closes, those of KO missing after `last` sessions."""
    prices = table(sessions)
    width, column = len(prices.instrument_ids), list(prices.instrument_ids).index("KO")
    for session in range(last, sessions):
        prices.close[session * width + column] = 0.0
    return prices


def holds_ko(mode: int, **more: object) -> pb.RunBacktestRequest:
    """A tenth in KO, decided once and long before its prices end."""
    prices = ends_early()
    setting = pb.BacktestSetting(
        given=pb.GivenSignals(
            dates=[prices.dates[3]],
            signals=sizing_pb2.SignalBatch(
                instrument_ids=["KO"], side=[types_pb2.SIDE_LONG], win_probability=[0.9],
                payoff=[1.0],
            ),
        ),
        limits=limits_pb2.Limits(weight_max=0.1),
    )  # fmt: skip
    return pb.RunBacktestRequest(prices=prices, settings=[setting], mode=mode, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [pb.BACKTEST_MODE_EXACT, pb.BACKTEST_MODE_FAST])
async def test_what_is_held_when_prices_end_is_closed_at_what_the_caller_says(
    client: Client, mode: int
) -> None:
    request = holds_ko(mode)
    width, place = len(request.prices.instrument_ids), 40 * len(request.prices.instrument_ids)
    column = list(request.prices.instrument_ids).index("KO")
    last = request.prices.close[39 * width + column]
    refused = await refusal(client.simulation.RunBacktest(request, timeout=LONG_S))
    assert refused.fields == {f"prices.close[{place + column}]": "PRICES_END"}

    named = {"instrument_id": "KO", "date": request.prices.dates[42]}
    for change, price, is_default, day in (
        ({"delistings": [pb.Delisting(**named, price=31.5)]}, 31.5, False, 42),
        ({"delistings": [pb.Delisting(**named, delisting_return=-1.0)]}, 0.0, False, 42),
        ({"delisting_return": -0.25}, 0.75 * last, True, 40),
    ):
        request = holds_ko(mode, **change)
        answer = await client.simulation.RunBacktest(request, timeout=LONG_S)
        (applied,), (result,) = answer.delistings, answer.results
        assert (applied.instrument_id, applied.is_default) == ("KO", is_default)
        assert applied.date == request.prices.dates[day]
        assert applied.price == pytest.approx(price, rel=1e-12)
        assert result.delisted_positions == 1
        assert result.trades == 1
        units = (result.equity[20] - result.cash[20]) / request.prices.close[20 * width + column]
        assert result.account.delistings == pytest.approx(units * price, abs=1e-6)
        cash = result.cash[20] + units * price
        assert list(result.equity[day:]) == pytest.approx([cash] * (60 - day), abs=1e-6)
        assert result.equity[day - 1] == pytest.approx(result.cash[20] + units * last, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"instrument_id": "XX"}, {"delistings[0].instrument_id": "UNKNOWN_INSTRUMENT"}),
        ({"date": "2020-01-01"}, {"delistings[0].date": "UNKNOWN_DATE"}),
        ({"date": "early"}, {"delistings[0].date": "CONTRADICTORY"}),
        ({"price": -1.0}, {"delistings[0].price": "OUT_OF_RANGE"}),
        ({"price": None}, {"delistings[0].price": "MISSING"}),
        ({"price": None, "delisting_return": -1.5},
         {"delistings[0].delisting_return": "OUT_OF_RANGE"}),
    ],
)  # fmt: skip
async def test_a_delisting_that_is_wrong_is_named_by_its_path(
    client: Client, change: dict[str, object], fields: dict[str, str]
) -> None:
    request = holds_ko(pb.BACKTEST_MODE_FAST)
    if change.get("date") == "early":
        change = {"date": request.prices.dates[30]}
    values = {"instrument_id": "KO", "date": request.prices.dates[42], "price": 1.0, **change}
    given = {name: value for name, value in values.items() if value is not None}
    request.delistings.add(**given)  # type: ignore[arg-type]
    refused = await refusal(client.simulation.RunBacktest(request, timeout=LONG_S))
    assert refused.fields == fields


async def test_prices_of_a_stored_universe_that_end_are_named_by_it_and_closed(
    client: Client,
) -> None:
    prices, universe = ends_early(), new_id("universe")
    days = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in prices.dates]
    history = history_service_pb2.History(
        universe_id=universe,
        instrument_ids=prices.instrument_ids,
        kind=history_service_pb2.HISTORY_KIND_PRICES,
        values=prices.close,
        missing=[cell for cell, price in enumerate(prices.close) if not price],
    )
    for day in days:
        history.observation_times.add().FromDatetime(day)
    history.known_time.FromDatetime(days[-1] + timedelta(hours=1))
    await client.history.PutHistory(history_service_pb2.PutHistoryRequest(history=history))
    asked = holds_ko(pb.BACKTEST_MODE_FAST)
    asked.universe_id = universe
    refused = await refusal(client.simulation.RunBacktest(asked, timeout=LONG_S))
    assert refused.fields == {"universe_id": "PRICES_END"}
    asked.delistings.add(instrument_id="KO", date=prices.dates[40], price=3.0)
    answer = await client.simulation.RunBacktest(asked, timeout=LONG_S)
    assert [item.price for item in answer.delistings] == [3.0]
    assert answer.results[0].delisted_positions == 1


async def test_a_stated_edge_is_sized_by_forecasts_of_volatility_in_both_modes(
    client: Client,
) -> None:
    setting = pb.BacktestSetting(
        volatility_forecast=pb.VolatilityForecastStrategy(sharpe=0.02, half_life=10.0, sessions=30),
        limits=limits_pb2.Limits(weight_max=0.1, leverage_max=1.0),
    )
    ends = []
    for mode in (pb.BACKTEST_MODE_EXACT, pb.BACKTEST_MODE_FAST):
        request = pb.RunBacktestRequest(prices=table(80), settings=[setting], mode=mode)
        (result,) = (await client.simulation.RunBacktest(request, timeout=LONG_S)).results
        assert result.decisions == 79 - 30
        ends.append(result.equity[-1])
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)


async def test_settings_are_beside_a_benchmark_and_the_best_of_them_is_tested(
    client: Client,
) -> None:
    """Against Hansen's test by hand on the same differences, for a benchmark and for a setting."""
    settings = [momentum("full", 1.0), momentum("half", 0.5), momentum("slow", 0.5, 90)]
    request = pb.RunBacktestRequest(
        prices=table(), settings=settings, benchmark=pb.Benchmark(equal_weights=True),
        mode=pb.BACKTEST_MODE_FAST,
    )  # fmt: skip
    answer = await client.simulation.RunBacktest(request, timeout=LONG_S)
    close = np.array(request.prices.close).reshape(300, -1)
    wealth = (close / close[0]).mean(axis=1)
    beside = answer.benchmark
    assert beside.name == "equal weights"
    np.testing.assert_allclose(beside.wealth, wealth, rtol=1e-12)
    assert beside.measures.total_return == pytest.approx(wealth[-1] - 1.0, rel=1e-9)
    logs = np.stack([np.diff(np.log(item.equity)) for item in answer.results], axis=1)
    held = np.diff(np.log(wealth))
    for column, result in zip(logs.T, answer.results, strict=True):
        found = result.benchmark_difference
        assert found.mean == pytest.approx((column - held).mean(), abs=1e-15)
        assert found.low < found.mean < found.high
        months = [x.value for x in result.calendar_returns if x.month and x.HasField("value")]
        grown = result.equity[-1] / result.equity[0]
        assert np.prod(1.0 + np.array(months)) == pytest.approx(grown, rel=1e-12)
    expected = superiority(logs - held[:, None])
    assert (answer.superior_ability_p, answer.reality_check_p) == pytest.approx(expected)

    request.ClearField("benchmark")
    answer = await client.simulation.RunBacktest(request, timeout=LONG_S)
    assert not answer.HasField("benchmark")
    assert not answer.results[0].HasField("benchmark_difference")
    expected = superiority(logs[:, 1:] - logs[:, :1])
    assert (answer.superior_ability_p, answer.reality_check_p) == pytest.approx(expected)
    del request.settings[2:]
    answer = await client.simulation.RunBacktest(request, timeout=LONG_S)
    assert not answer.HasField("superior_ability_p"), "one against one is a difference, no search"


@pytest.mark.parametrize(
    ("benchmark", "fields"),
    [
        (pb.Benchmark(), {"benchmark.instrument_id": "MISSING"}),
        (pb.Benchmark(instrument_id="XX"), {"benchmark.instrument_id": "UNKNOWN_INSTRUMENT"}),
        (pb.Benchmark(instrument_id="KO"), {"benchmark.instrument_id": "MISSING"}),
    ],
)
async def test_a_benchmark_that_can_t_be_held_is_named_by_its_path(
    client: Client, benchmark: pb.Benchmark, fields: dict[str, str]
) -> None:
    prices = table(20)
    prices.close[list(prices.instrument_ids).index("KO")] = 0.0
    request = pb.RunBacktestRequest(
        prices=prices, settings=[momentum("a", 0.5, 5)], benchmark=benchmark
    )
    refused = await refusal(client.simulation.RunBacktest(request, timeout=LONG_S))
    assert refused.fields == fields
