"""What was tried is counted over calls, modes and callers, and every look at locked sessions."""

import asyncio
from datetime import UTC, datetime, timedelta
from math import e
from statistics import NormalDist, stdev

import numpy as np
import pytest
from positionsizing.v1 import job_service_pb2
from positionsizing.v1 import simulation_service_pb2 as pb

from tests.server.simulation.test_backtests import LONG_S, momentum, table
from tests.server.simulation.test_tune import request as search
from tests.server.support.service_client import Client, new_id, refusal

FRACTIONS = (0.1, 0.2, 0.4, 0.8)
EULER = 0.5772156649015329


def backtest(experiment: str, *fractions: float, sessions: int = 60) -> pb.RunBacktestRequest:
    return pb.RunBacktestRequest(
        prices=table(sessions),
        settings=[momentum(f"{fraction}", fraction, 10) for fraction in fractions],
        mode=pb.BACKTEST_MODE_FAST,
        experiment=experiment,
    )


async def ran(client: Client, request: pb.RunBacktestRequest) -> pb.RunBacktestResponse:
    return await client.simulation.RunBacktest(request, timeout=LONG_S)


async def listed(client: Client, experiment: str) -> pb.ListTrialsResponse:
    return await client.simulation.ListTrials(pb.ListTrialsRequest(experiment=experiment))


async def test_settings_tried_one_by_one_are_deflated_as_if_tried_at_once(client: Client) -> None:
    at_once = await ran(client, backtest(new_id("once"), *FRACTIONS))
    best = at_once.overfitting.best
    one_by_one = new_id("each")
    others = [fraction for fraction in FRACTIONS if f"{fraction}" != best]
    for fraction in others:
        await ran(client, backtest(one_by_one, fraction))
    last = (await ran(client, backtest(one_by_one, float(best)))).overfitting
    assert (last.trials, last.trials_counted) == (4, 4)
    assert last.deflated_sharpe == pytest.approx(at_once.overfitting.deflated_sharpe, rel=1e-9)
    # By hand, of what is listed: Phi((S - sd E[max of 4]) / se).
    ratios = [trial.sharpe for trial in (await listed(client, one_by_one)).trials]
    quantile = NormalDist().inv_cdf
    expected_max = (1 - EULER) * quantile(1 - 1 / 4) + EULER * quantile(1 - 1 / (4 * e))
    (chosen,) = [item for item in at_once.results if item.name == best]
    error = chosen.measures.sharpe_error / np.sqrt(252)
    wanted = NormalDist().cdf((max(ratios) - stdev(ratios) * expected_max) / error)
    assert last.deflated_sharpe == pytest.approx(wanted, rel=1e-9)


async def test_the_same_setting_over_the_same_dates_counts_once(client: Client) -> None:
    name = new_id("experiment")
    first = await ran(client, backtest(name, 0.5))
    again = backtest(name, 0.5)
    again.settings[0].name = "another name"
    again.settings.add().CopyFrom(again.settings[0])
    again.mode = pb.BACKTEST_MODE_EXACT
    told = (await ran(client, again)).overfitting
    assert (told.trials, told.trials_counted) == (1, 1)
    again.mode = pb.BACKTEST_MODE_FAST
    again.settings[0].costs.slippage_rate = 0.001
    assert (await ran(client, again)).overfitting.trials_counted == 2
    other_dates = await ran(client, backtest(name, 0.5, sessions=59))
    assert other_dates.overfitting.trials_counted == 3
    assert first.overfitting.experiment == name
    found = await listed(client, name)
    assert found.trials_counted == len(found.trials) == 3
    assert len({trial.trial_hash for trial in found.trials}) == 3
    assert found.trials[0].last_date == table(59).dates[-1]
    assert {trial.method for trial in found.trials} == {"RunBacktest"}
    assert all(trial.author for trial in found.trials)
    assert not found.locked_openings


async def test_runs_at_once_know_of_each_other(client: Client) -> None:
    name = new_id("experiment")
    calls = (ran(client, backtest(name, fraction)) for fraction in FRACTIONS)
    counted = [answer.overfitting.trials_counted for answer in await asyncio.gather(*calls)]
    assert sorted(counted) == [1, 2, 3, 4]


async def test_the_larger_of_what_the_caller_says_and_what_was_counted_holds(
    client: Client,
) -> None:
    name = new_id("experiment")
    await ran(client, backtest(name, *FRACTIONS))
    more = backtest(name, 0.5, 0.6)
    more.trials_before = 3
    assert (await ran(client, more)).overfitting.trials == 2 + 4
    more.trials_before = 100
    told = (await ran(client, more)).overfitting
    assert (told.trials, told.trials_counted) == (102, 6)


async def test_without_a_name_all_that_is_tried_on_the_same_instruments_counts(
    client: Client,
) -> None:
    unnamed = backtest("", 0.3)
    for place, instrument in enumerate(unnamed.prices.instrument_ids):
        unnamed.prices.instrument_ids[place] = f"{instrument}-{new_id('own')}"
    first = (await ran(client, unnamed)).overfitting
    unnamed.settings[0].mean_return.is_reversal = True
    second = (await ran(client, unnamed)).overfitting
    assert first.experiment == second.experiment
    assert (first.trials_counted, second.trials_counted) == (1, 2)


async def test_a_second_look_at_locked_sessions_is_told(client: Client) -> None:
    asked = search()
    asked.experiment = name = new_id("experiment")
    begun = datetime.now(UTC)
    first = await client.simulation.TuneParameters(asked, timeout=LONG_S)
    assert (first.locked_openings_before, first.locked_trials_before) == (0, 0)
    assert not first.HasField("locked_opened_last")
    again = await client.simulation.TuneParameters(asked, timeout=LONG_S)
    assert again.locked_openings_before == 1
    opened = again.locked_opened_last
    assert (opened.first_date, opened.last_date) == (first.locked_from, asked.prices.dates[-1])
    assert opened.author
    assert begun <= opened.open_time.ToDatetime(UTC) <= datetime.now(UTC) + timedelta(seconds=1)
    assert again.overfitting == first.overfitting, "the same trials are no others"
    # A backtest over the whole history looks at them as well; one of the sessions before does not.
    for sessions in (128, 160):
        await ran(client, backtest(name, 0.5, sessions=sessions))
    third = await client.simulation.TuneParameters(asked, timeout=LONG_S)
    assert (third.locked_openings_before, third.locked_trials_before) == (2, 1)
    assert third.overfitting.trials == 16 + 2
    # Later sessions are unseen.
    later = search()
    later.experiment = name
    later.prices.CopyFrom(table(260))
    unseen = await client.simulation.TuneParameters(later, timeout=LONG_S)
    assert (unseen.locked_openings_before, unseen.locked_trials_before) == (0, 0)
    openings = (await listed(client, name)).locked_openings
    assert [item.first_date for item in openings] == [unseen.locked_from] + [first.locked_from] * 3


async def test_jobs_count_and_open_as_calls_do(client: Client) -> None:
    name = new_id("experiment")
    await ran(client, backtest(name, 0.5))
    tune = search()
    tune.experiment = name
    for work in (
        job_service_pb2.StartJobRequest(run_backtest=backtest(name, 0.6)),
        job_service_pb2.StartJobRequest(tune_parameters=tune),
    ):
        job = (await client.jobs.StartJob(work)).job
        asked = job_service_pb2.WatchJobRequest(job_id=job.job_id)
        async for _ in client.jobs.WatchJob(asked, timeout=LONG_S):
            pass
        answer = await client.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job.job_id))
        if answer.WhichOneof("result") == "run_backtest":
            assert answer.run_backtest.overfitting.trials_counted == 2
        else:
            assert answer.tune_parameters.overfitting.trials == 18
    found = await listed(client, name)
    assert found.trials_counted == 18
    (opening,) = found.locked_openings
    assert opening.author == job.author


async def test_names_and_numbers_of_trials_are_checked(client: Client) -> None:
    wrong = backtest("two words", 0.5)
    assert (await refusal(ran(client, wrong))).fields == {"experiment": "BAD_FORMAT"}
    tune = search()
    tune.experiment = "two words"
    assert (await refusal(client.simulation.TuneParameters(tune))).fields == {
        "experiment": "BAD_FORMAT"
    }
    call = client.simulation.ListTrials(pb.ListTrialsRequest(limit=0))
    assert (await refusal(call)).fields == {"limit": "OUT_OF_RANGE", "experiment": "MISSING"}
    assert await listed(client, new_id("none")) == pb.ListTrialsResponse()
