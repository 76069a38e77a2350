"""Kelly of one bet or asset, through the RPC and the command."""

import math
from typing import Any

import grpc
import mpmath
import pytest
from positionsizing.v1 import edge_service_pb2 as pb

from tests.server.support.service_client import Client, refusal


def bet(**more: Any) -> pb.EvaluateStakesRequest:
    return pb.EvaluateStakesRequest(bet=pb.BetEdge(win_probability=0.6, payoff=1.0), **more)


async def test_a_bet_at_fractions_of_kelly(client: Client) -> None:
    asked = bet(kelly_fractions=[0.5, 1.0], levels=[0.5], wealth_floor=0.5, floor_probability=0.125)
    asked.bet.outcome_count = 50
    answer = await client.edge.EvaluateStakes(asked)
    assert answer.kelly == pytest.approx(0.2)
    assert answer.break_even_probability == 0.5
    assert answer.zero_growth_stake == pytest.approx(0.3893906833, abs=1e-9)
    assert (answer.kelly_low, answer.kelly_high) == pytest.approx((-0.07771802, 0.44831408))
    assert answer.growth_lost == pytest.approx(0.01)
    half, full = answer.rows
    assert (half.stake, full.stake) == pytest.approx((0.1, 0.2))
    assert full.growth == pytest.approx(0.0201355136, abs=1e-10)
    assert full.ever_below[0] == pytest.approx(0.5)
    assert full.doubles_before_halving == pytest.approx(2 / 3)
    assert half.ever_below[0] == pytest.approx(0.12206844, abs=1e-8)
    assert answer.floor_kelly_fraction == pytest.approx(0.50425074, abs=1e-7)


async def test_what_cannot_lose_keeps_a_floor_with_all_of_kelly(client: Client) -> None:
    asked = bet(wealth_floor=0.5, floor_probability=0.1)
    asked.bet.win_probability = 1.0
    assert (await client.edge.EvaluateStakes(asked)).floor_kelly_fraction == 1.0


@pytest.mark.parametrize("payoff", [1.3, 500.0])
async def test_an_edge_too_near_to_certainty_has_no_test_of_whether_it_holds(
    client: Client, payoff: float
) -> None:
    """Of a loss of a thousand millionth as likely as not to come: nobody counts so many bets."""
    asked = pb.EvaluateStakesRequest(
        bet=pb.BetEdge(win_probability=1e-9, payoff=payoff, loss_fraction=1e-9)
    )
    answer = await client.edge.EvaluateStakes(asked)
    assert answer.kelly > 0.0
    assert not answer.HasField("sequential_test")


@pytest.mark.parametrize("edge", [1e-13, 1e-9, 1e-5, 0.01, 0.3])
async def test_bets_until_an_edge_is_known_follow_its_size(client: Client, edge: float) -> None:
    """Wald's means, of the information of a bet in 40 digits."""
    asked = pb.EvaluateStakesRequest(bet=pb.BetEdge(win_probability=0.5 + edge, payoff=1.0))
    test = (await client.edge.EvaluateStakes(asked)).sequential_test
    with mpmath.workdps(40):
        p, q = mpmath.mpf(0.5 + edge), mpmath.mpf(0.5)
        win, loss = mpmath.log(q / p), mpmath.log((1 - q) / (1 - p))
        upper, lower = mpmath.log(0.9 / mpmath.mpf(0.05)), mpmath.log(mpmath.mpf(0.1) / 0.95)
        holds = (0.05 * upper + 0.95 * lower) / (p * win + (1 - p) * loss)
        gone = (0.9 * upper + 0.1 * lower) / (q * win + (1 - q) * loss)
    assert test.bets_if_it_holds == pytest.approx(float(holds), rel=1e-9)
    assert test.bets_if_gone == pytest.approx(float(gone), rel=1e-9)


async def test_a_stake_of_everything_is_ruin(client: Client) -> None:
    """Five times the fifth that is Kelly, which in floating point is a little less than one."""
    (row,) = (await client.edge.EvaluateStakes(bet(kelly_fractions=[5.0]))).rows
    assert (row.stake, row.growth, row.growth_volatility) == (1.0, -math.inf, math.inf)
    assert row.doubles_before_halving == pytest.approx(0.6)


@pytest.mark.parametrize(
    "edge",
    [
        {"bet": pb.BetEdge(win_probability=0.6, payoff=1.0)},
        {"bet": pb.BetEdge(win_probability=0.5, payoff=1.0, outcome_count=50)},
        {"bet": pb.BetEdge(win_probability=0.4, payoff=1.0, outcome_count=50)},
        {"asset": pb.AssetEdge(expected_return=0.02, volatility=0.2)},
        {
            "asset": pb.AssetEdge(
                expected_return=0.02, volatility=0.2, risk_free_rate=0.02, observed_periods=50.0
            )
        },
    ],
)
async def test_certain_edges_and_no_stake_lose_no_growth(
    edge: dict[str, Any], client: Client
) -> None:
    """Unset, rather than 0 or what a stake would lose."""
    answer = await client.edge.EvaluateStakes(pb.EvaluateStakesRequest(**edge))
    assert not answer.HasField("growth_lost")


async def test_an_asset_by_default(client: Client) -> None:
    asset = pb.AssetEdge(expected_return=0.08, volatility=0.2, risk_free_rate=0.02)
    answer = await client.edge.EvaluateStakes(pb.EvaluateStakesRequest(asset=asset))
    assert answer.kelly == pytest.approx(1.5)
    assert not answer.HasField("kelly_low")
    assert [row.kelly_fraction for row in answer.rows] == [0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
    assert list(answer.levels) == [0.9, 0.7, 0.5]
    assert answer.rows[2].ever_below[2] == pytest.approx(0.125)


async def test_growth_that_is_kept_whatever_the_distribution_k9_5(client: Client) -> None:
    guarantee = pb.GrowthGuarantee(periods=120, probability=0.05)
    for mean, side in ((0.01, 1.0), (-0.01, -1.0)):
        asset = pb.AssetEdge(expected_return=mean, volatility=0.05)
        asked = pb.EvaluateStakesRequest(
            asset=asset, kelly_fractions=[0.25, 1.0], guarantee=guarantee
        )
        answer = await client.edge.EvaluateStakes(asked)
        assert answer.rows[0].stake == pytest.approx(side)
        assert answer.rows[0].guaranteed_growth == pytest.approx(-0.0347361884, abs=5e-11)
        assert answer.rows[1].guaranteed_growth < answer.rows[0].guaranteed_growth
        assert answer.guaranteed_stake == 0.0
    # With a better edge some stake guarantees growth, and its neighbours less.
    asked.asset.expected_return = 0.05
    best = (await client.edge.EvaluateStakes(asked)).guaranteed_stake
    kelly = 0.05 / 0.05**2
    asked.kelly_fractions[:] = [0.99 * best / kelly, best / kelly, 1.01 * best / kelly]
    below, top, above = (await client.edge.EvaluateStakes(asked)).rows
    assert top.guaranteed_growth > max(below.guaranteed_growth, above.guaranteed_growth, 0.0)
    without = await client.edge.EvaluateStakes(bet())
    assert not without.HasField("guaranteed_stake")
    assert not without.rows[0].HasField("guaranteed_growth")


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        (bet(guarantee=pb.GrowthGuarantee(periods=10)), "guarantee.probability"),
        (bet(guarantee=pb.GrowthGuarantee(probability=0.1)), "guarantee.periods"),
        (pb.EvaluateStakesRequest(), "bet"),
        (pb.EvaluateStakesRequest(bet=pb.BetEdge(win_probability=0.5)), "bet.payoff"),
        (
            pb.EvaluateStakesRequest(bet=pb.BetEdge(win_probability=60.0, payoff=1.0)),
            "bet.win_probability",
        ),
        (pb.EvaluateStakesRequest(asset=pb.AssetEdge(expected_return=0.1)), "asset.volatility"),
        (bet(levels=[1.0]), "levels[0]"),
        (bet(kelly_fractions=[0.5] * 65), "kelly_fractions"),
        (bet(wealth_floor=0.5), "floor_probability"),
        (bet(kelly_fractions=[float("nan")]), "kelly_fractions[0]"),
    ],
)
async def test_what_is_wrong_is_named(
    client: Client, asked: pb.EvaluateStakesRequest, path: str
) -> None:
    found = await refusal(client.edge.EvaluateStakes(asked))
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert path in found.fields


async def test_how_long_until_one_could_know(client: Client) -> None:
    """A8.4: 389 and 39,989 bets, 16 over the Sharpe ratio squared; A8.6: Wald's test."""
    for p, stake, bets in ((0.6, 0.2, 389), (0.51, 0.02, 39_989)):
        asked = pb.EvaluateStakesRequest(bet=pb.BetEdge(win_probability=p, payoff=1.0))
        asked.kelly_fractions.append(1.0)
        row = (await client.edge.EvaluateStakes(asked)).rows[0]
        assert row.stake == pytest.approx(stake)
        assert round(row.evidence_periods) == bets
    for ratio, years in ((1.0, 16.0), (0.5, 64.0)):
        asset = pb.AssetEdge(expected_return=0.2 * ratio, volatility=0.2)
        asked = pb.EvaluateStakesRequest(asset=asset, kelly_fractions=[0.5, 1.0])
        answer = await client.edge.EvaluateStakes(asked)
        # At a part c of Kelly 4 / (SR (1 - c / 2))^2.
        assert answer.rows[0].evidence_periods == pytest.approx(4 / (0.75 * ratio) ** 2)
        assert answer.rows[1].evidence_periods == pytest.approx(years)
        assert not answer.HasField("sequential_test")
    claimed = pb.BetEdge(win_probability=0.55, payoff=1.0)
    found = (
        await client.edge.EvaluateStakes(pb.EvaluateStakesRequest(bet=claimed))
    ).sequential_test
    assert found.gone_above == pytest.approx(2.8903717579, abs=5.1e-11)
    assert found.holds_below == pytest.approx(-2.2512917986, abs=5.1e-11)
    assert found.bets_if_it_holds == pytest.approx(398.18, abs=5.1e-3)
    assert found.bets_if_gone == pytest.approx(472.86, abs=5.1e-3)
    assert found.bets_fixed == pytest.approx(851.6, abs=0.051)
    surer = pb.EvaluateStakesRequest(
        bet=claimed, false_alarm_probability=0.01, missed_probability=0.01
    )
    assert (await client.edge.EvaluateStakes(surer)).sequential_test.bets_if_gone > 800
    surer.missed_probability = 0.7
    refused = await refusal(client.edge.EvaluateStakes(surer))
    assert refused.fields == {"missed_probability": "OUT_OF_RANGE"}
    none = pb.EvaluateStakesRequest(bet=pb.BetEdge(win_probability=0.5, payoff=1.0))
    assert not (await client.edge.EvaluateStakes(none)).HasField("sequential_test")
