"""Parameters searched on a history: over gRPC, in the worker, and what is refused before."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import simulation_service_pb2 as pb
from positionsizing.v1 import types_pb2

from compute.simulate.tuning import Evidence, Objection, objections
from server.calls.errors import Refusal
from server.simulation.tune import tune_parameters, tune_violations
from tests.server.simulation.test_backtests import LONG_S, momentum, table
from tests.server.support.service_client import Client, new_id, refusal


def request() -> pb.TuneParametersRequest:
    fraction = pb.TunedRange(
        field="parameters.kelly_fraction", low=0.05, high=1.0, is_logarithmic=True
    )
    window = pb.TunedRange(field="mean_return.sessions", low=10, high=13)
    return pb.TuneParametersRequest(
        prices=table(160),
        setting=momentum("base", 0.5, sessions=12),
        ranges=[fraction, window],
        trials=16,
        segments=4,
    )


def tuned(asked: pb.TuneParametersRequest) -> pb.TuneParametersResponse:
    """As a worker answers, which knows of no other search."""
    answer = tune_parameters(asked).answer
    assert isinstance(answer, pb.TuneParametersResponse)
    return answer


def test_trials_are_counted_judged_forward_and_locked() -> None:
    asked = request()
    answer = tuned(asked)
    assert list(answer.fields) == ["parameters.kelly_fraction", "mean_return.sessions"]
    assert len(answer.trials) == 16
    assert list(answer.trials[0].values) == [0.5, 12.0]
    values = np.array([trial.values for trial in answer.trials])
    assert values[:, 0].min() >= 0.05
    assert values[:, 0].max() <= 1.0
    assert set(values[:, 1]) <= {10.0, 11.0, 12.0, 13.0}
    assert len(answer.walk_forward_growth) == len(answer.base_growth) == 3
    assert answer.locked_from == asked.prices.dates[128]
    assert answer.locked_growth.observations == 32
    assert answer.overfitting.trials == 16
    chosen = answer.trials[answer.chosen]
    assert answer.proposal.kelly_fraction == chosen.values[0]
    assert chosen.plateau >= answer.trials[0].plateau
    assert 0.0 <= answer.superior_ability_p <= answer.reality_check_p <= 1.0
    # What comes after the lock changes neither trials nor choice.
    for i in range(140 * 20, 160 * 20):
        asked.prices.close[i] *= 1.5
    again = tuned(asked)
    assert again.trials == answer.trials
    assert again.chosen == answer.chosen
    assert again.locked_growth.mean != answer.locked_growth.mean


NOTHING_AGAINST = Evidence(
    walk_forward=np.array([2.0, 0.5, 3.0]),
    base=np.array([1.0, 1.0, 1.0]),
    locked_difference=1e-6,
    superior_p=0.1,
    overfitting=0.5,
)


@pytest.mark.parametrize(
    ("change", "held"),
    [
        ({}, []),
        ({"superior_p": None, "overfitting": None, "locked_difference": None}, []),
        ({"walk_forward": np.array([0.5, 0.5, 9.0])}, [Objection.WALK_FORWARD]),
        ({"walk_forward": np.array([2.0, -9.0, 3.0])}, [Objection.WALK_FORWARD]),
        ({"walk_forward": np.array([2.0, -np.inf, 3.0])}, [Objection.WALK_FORWARD]),
        ({"base": np.array([1.0, -np.inf, 1.0])}, []),
        ({"locked_difference": 0.0}, [Objection.LOCKED]),
        ({"superior_p": 0.98}, [Objection.NOT_SUPERIOR]),
        ({"overfitting": 0.6}, [Objection.OVERFITTED]),
    ],
)
def test_a_choice_is_recommended_where_nothing_speaks_against_it(
    change: dict[str, Any], held: list[Objection]
) -> None:
    assert list(objections(replace(NOTHING_AGAINST, **change))) == held


def flat_then(drift: float) -> pb.PriceTable:
    """Prices that rise, one that has turned within the locked sessions."""
    random = np.random.default_rng(5)
    steps = random.normal(0.002, 0.01, (240, 1))
    steps[192:] = random.normal(drift, 0.01, (48, 1))
    made = pb.PriceTable(dates=list(table(240).dates), instrument_ids=["A"])
    made.close.extend((100.0 * np.exp(np.cumsum(steps, axis=0))).ravel())
    return made


def test_evidence_of_what_follows_decides_what_is_proposed() -> None:
    asked = request()
    asked.setting.ClearField("limits")
    asked.setting.limits.weight_max = 5.0
    asked.setting.limits.leverage_max = 5.0
    asked.setting.parameters.kelly_fraction = 0.06
    del asked.ranges[1:]
    asked.prices.CopyFrom(flat_then(0.002))
    risen = tuned(asked)
    asked.prices.CopyFrom(flat_then(-0.01))
    turned = tuned(asked)
    assert risen.chosen == turned.chosen != 0
    assert pb.TUNE_OBJECTION_LOCKED not in risen.objections
    assert pb.TUNE_OBJECTION_LOCKED in turned.objections
    assert not turned.is_recommended
    for answer in (risen, turned):
        assert answer.is_recommended == (not answer.objections)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("ranges[0].field", {"field": "parameters.nothing"}),
        ("ranges[0].field", {"field": "name"}),
        ("ranges[0].high", {"high": 0.01}),
        ("ranges[0].high", {"high": 7.0}),
        ("ranges[0].low", {"low": 0.0}),
    ],
)
def test_wrong_ranges_are_named(field: str, change: dict[str, object]) -> None:
    asked = request()
    for name, value in change.items():
        setattr(asked.ranges[0], name, value)
    assert field in [item.field for item in tune_violations(asked)]


def test_too_short_a_history_is_refused() -> None:
    asked = request()
    asked.prices.CopyFrom(table(70))
    with pytest.raises(Refusal) as refused:
        tuned(asked)
    assert refused.value.reason == "TOO_FEW"


async def test_a_search_over_grpc_ends_in_a_proposal(client: Client) -> None:
    asked = request()
    asked.experiment = new_id("experiment")
    answer = await client.simulation.TuneParameters(asked, timeout=LONG_S)
    known = tuned(asked)
    known.overfitting.trials_counted = 16
    assert answer == known
    assert 0.05 <= answer.proposal.kelly_fraction <= 1.0
    asked.ranges[1].field = "limits.nothing"
    asked.setting.parameters.kelly_fraction = 7.0
    refused = await refusal(client.simulation.TuneParameters(asked, timeout=LONG_S))
    assert set(refused.fields) == {"ranges[1].field", "setting.parameters.kelly_fraction"}


def test_the_forecast_of_a_stated_edge_is_searched_and_no_rule_is_put_in_its_place() -> None:
    asked = request()
    rule = pb.VolatilityForecastStrategy(premium=0.0005, sessions=20)
    asked.setting.volatility_forecast.CopyFrom(rule)
    found = {item.field: item.reason for item in tune_violations(asked)}
    assert found == {"ranges[1].field": "NOT_APPLICABLE"}
    asked.ranges[1].field = "volatility_forecast.sharpe"
    asked.ranges[1].low, asked.ranges[1].high = 0.01, 0.1
    found = {item.field: item.reason for item in tune_violations(asked)}
    assert found == {"ranges[1].field": "NOT_APPLICABLE"}
    asked.ranges[1].field = "volatility_forecast.half_life"
    asked.ranges[1].low, asked.ranges[1].high = 5.0, 40.0
    assert not list(tune_violations(asked))
    answer = tuned(asked)
    assert list(answer.trials[0].values) == [0.5, 23.0]
    assert len({trial.objective for trial in answer.trials}) > 8
    asked.setting.volatility_forecast.ClearField("premium")
    found = {item.field: item.reason for item in tune_violations(asked)}
    assert found == {"setting.volatility_forecast.premium": "MISSING"}


async def test_a_search_keeps_the_limits_on_stress_scenarios_of_its_request(
    client: Client,
) -> None:
    """A crash of half of every price with 2 % to lose leaves long books a gross weight of 4 %."""
    asked = request()
    asked.setting.limits.allow_short = False
    free = tuned(asked)
    asked.setting.limits.joint.stress.add(scenario_id="crash", loss_max=0.02)
    refused = await refusal(client.simulation.TuneParameters(asked, timeout=LONG_S))
    assert "setting.limits.joint.stress[0].scenario_id" in refused.fields
    names = asked.prices.instrument_ids
    scenario = asked.stress_scenarios.add(scenario_id="crash")
    scenario.shock.instrument_ids.extend(names)
    scenario.shock.returns.extend([-0.5] * len(names))
    held = await client.simulation.TuneParameters(asked, timeout=LONG_S)
    moved = [max(abs(one.objective) for one in answer.trials) for answer in (free, held)]
    assert 0.0 < moved[1] < 0.1 * moved[0]


def with_signals(asked: pb.TuneParametersRequest, *, until: int) -> pb.TuneParametersRequest:
    """Sized by bets that are given every fourth session, up to session `until`."""
    given = asked.setting.given
    for session in range(4, until, 4):
        given.dates.extend([asked.prices.dates[session]] * 2)
        given.signals.instrument_ids.extend(asked.prices.instrument_ids[:2])
    count = len(given.dates)
    given.signals.side.extend([types_pb2.SIDE_LONG] * count)
    given.signals.win_probability.extend([0.505] * count)
    given.signals.payoff.extend([0.04] * count)
    given.signals.loss_fraction.extend([0.04] * count)
    del asked.ranges[1]
    return asked


def test_signals_that_are_given_are_tuned_over_the_whole_history() -> None:
    """They go on into the locked sessions; their settings were compared, which signals can't be."""
    answer = tuned(with_signals(request(), until=159))
    assert len(answer.trials) == 16
    assert answer.locked_growth.observations == 32
    assert np.ptp([trial.objective for trial in answer.trials]) > 0.0
    wrong = with_signals(request(), until=20)
    wrong.setting.given.dates[1] = "2001-01-01"
    with pytest.raises(Refusal, match=r"setting\.given\.dates\[1\]"):
        tune_parameters(wrong)
