"""Numbers known from the literature, asked of a running service."""

import itertools
import math

import numpy as np
import pytest
from positionsizing.v1 import (
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    types_pb2,
)

from tests.server.support.service_client import Client, sizing_request

SHRINK = parameter_service_pb2.ConfidenceShrinkage
BAKER_MCHALE = SHRINK.CONFIDENCE_SHRINKAGE_BAKER_MCHALE


async def ready(client: Client, cash: float = 1e6, lot: float = 1e-6, **parameters: object) -> str:
    """A portfolio of full Kelly, with lots too small to matter."""
    portfolio_id = await client.ready(cash, allow_short=True, leverage_max=100.0)
    given = {"kelly_fraction": 1.0} | parameters
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(**given),  # type: ignore[arg-type]
        )
    )
    await client.put_market(lot_size=[lot] * 8)
    return portfolio_id


async def sized(
    client: Client, portfolio_id: str, lines: dict[str, object], n: int = 1
) -> sizing_pb2.SizingDecision:
    names = [f"I{i}" for i in range(n)]
    return await client.size(sizing_request(portfolio_id, names, lines, validate_only=True))


def stage(decision: sizing_pb2.SizingDecision, name: str) -> list[float]:
    """Weights after a stage, or after the last that changed anything before it."""
    wanted = types_pb2.SizingStage.Value(f"SIZING_STAGE_{name}")
    return list([s for s in decision.waterfall.stages if s.stage <= wanted][-1].weight)


@pytest.mark.parametrize("n_each", [2, 3])
async def test_the_next_card_game_ends_the_same_whatever_the_order(
    client: Client, n_each: int
) -> None:
    """Cover's game: full Kelly on the colour of each next card always ends at 2^n / C(n, n/2)."""
    portfolio_id, start = await ready(client, 1e6), 1e6
    n = 2 * n_each
    orders = list(itertools.combinations(range(n), n_each))
    for reds in orders[::2]:
        cash, left = start, {1: n_each, -1: n_each}
        for place in range(n):
            await client.portfolio.SetHoldings(
                portfolio_service_pb2.SetHoldingsRequest(
                    portfolio_id=portfolio_id, cash=cash, confirm_equity=True
                )
            )
            red = left[1] >= left[-1]
            lines = {
                "side": [types_pb2.SIDE_LONG if red else types_pb2.SIDE_SHORT],
                "win_probability": [max(left.values()) / sum(left.values())],
                "payoff": [1.0],
            }
            decision = await sized(client, portfolio_id, lines)
            card = 1 if place in reds else -1
            cash += card * decision.sizes.notional[0]
            left[card] -= 1
        assert cash / start == pytest.approx(2.0**n / math.comb(n, n_each), rel=1e-9), reds


@pytest.mark.parametrize(
    ("mode", "kept", "within"),
    [
        (SHRINK.CONFIDENCE_SHRINKAGE_NONE, [1.0] * 6, 1e-10),
        (
            BAKER_MCHALE,
            [0.8, 0.5, 0.8620689655, 0.5, 0.7208971164, 0.3076923077],
            1e-9,
        ),
        (
            SHRINK.CONFIDENCE_SHRINKAGE_BAKER_MCHALE_NUMERIC,
            [0.7966, 0.5620, 0.8612, 0.5606, 0.7422, 0.4220],
            1e-3,
        ),
    ],
)
async def test_uncertain_edges(
    client: Client, mode: SHRINK.ValueType, kept: list[float], within: float
) -> None:
    """K6.1 to K6.6, Baker and McHale 2013; the fifth is 0.050625 / 0.070225."""
    portfolio_id = await ready(client, confidence_shrinkage=mode)
    lines = {
        "win_probability": [0.60, 0.55, 0.55, 0.60, 0.35, 0.52],
        "payoff": [1.0, 1.0, 1.0, 1.0, 2.5, 1.0],
        "win_probability_error": [0.05, 0.05, 0.02, 0.10, 0.04, 0.03],
    }
    decision = await sized(client, portfolio_id, lines, 6)
    raw = np.array(stage(decision, "RAW_KELLY"))
    np.testing.assert_allclose(raw, [0.2, 0.1, 0.1, 0.2, 0.09, 0.04], rtol=1e-10)
    np.testing.assert_allclose(np.array(stage(decision, "CONFIDENCE")) / raw, kept, atol=within)


async def test_a_share_of_confidence_is_the_share_of_the_stake_that_is_kept(client: Client) -> None:
    """Of bets and of returns over cash; a standard error of a mean is se / s^2 of the stake."""
    portfolio_id = await ready(client, confidence_shrinkage=BAKER_MCHALE, risk_free_rate=0.01)
    share = [0.7, 0.25]
    bet = await sized(client, portfolio_id, {"win_probability": [0.6] * 2, "confidence": share}, 2)
    assert stage(bet, "CONFIDENCE") == pytest.approx(np.multiply(share, stage(bet, "RAW_KELLY")))
    lines: dict[str, object] = {"win_probability": [], "payoff": []}
    lines |= {"expected_return": [0.06] * 2, "volatility": [0.2] * 2}
    sure = await sized(client, portfolio_id, lines | {"confidence": share}, 2)
    assert stage(sure, "RAW_KELLY") == pytest.approx([1.25] * 2, rel=1e-12)
    assert stage(sure, "CONFIDENCE") == pytest.approx(np.multiply(share, 1.25), rel=1e-12)
    noisy = await sized(client, portfolio_id, lines | {"expected_return_error": [0.02, 0.05]}, 2)
    # Standard errors of the stake of 0.5 and 1.25: it keeps 25/29 and a half.
    kept = [1.25 * 25 / 29, 1.25 / 2]
    assert stage(noisy, "CONFIDENCE") == pytest.approx(kept, rel=1e-12)


async def test_a_history_is_sized_at_its_posterior_mean(client: Client) -> None:
    """Browne and Whitt 1996: f = 2 (1 + wins) / (2 + n) - 1, from a uniform prior."""
    none = SHRINK.CONFIDENCE_SHRINKAGE_NONE
    portfolio_id = await ready(client, confidence_shrinkage=none)
    counts = [(6, 4), (36, 24), (11, 9)]
    lines = {
        "win_probability": [],
        "payoff": [],
        "history_outcome": [x for w, lost in counts for x in [1.0] * w + [-1.0] * lost],
        "history_length": [w + lost for w, lost in counts],
    }
    decision = await sized(client, portfolio_id, lines, 3)
    expected = [2.0 * (1 + w) / (2 + w + lost) - 1.0 for w, lost in counts]
    np.testing.assert_allclose(stage(decision, "RAW_KELLY"), expected, rtol=1e-10)
    sizes = decision.sizes
    for low, weight, high in zip(sizes.weight_low, expected, sizes.weight_high, strict=True):
        assert low < weight < high


@pytest.mark.parametrize(
    ("floor", "probability", "fraction"),
    [(0.5, 0.125, 0.5), (0.5, 0.5, 1.0), (0.7, 0.343, 0.5), (0.5, 0.0078125, 0.25)],
)
async def test_a_tolerated_drawdown_chooses_the_fraction(
    client: Client, floor: float, probability: float, fraction: float
) -> None:
    """P(wealth ever falls to x) = x^(2/c - 1), Thorp 2006."""
    tolerance = parameter_service_pb2.DrawdownTolerance(wealth_floor=floor, probability=probability)
    portfolio_id = await ready(client, drawdown_tolerance=tolerance)
    decision = await sized(client, portfolio_id, {})
    assert stage(decision, "KELLY_FRACTION") == pytest.approx([0.2 * fraction], rel=1e-9)


@pytest.mark.parametrize(
    ("side", "stop", "loss"),
    [(types_pb2.SIDE_LONG, 99.9, 0.1 + 5e-4 * 199.9), (types_pb2.SIDE_SHORT, 100.1, 0.1 + 0.10005)],
)
async def test_fees_are_part_of_the_loss_at_the_stop(
    client: Client, side: types_pb2.Side.ValueType, stop: float, loss: float
) -> None:
    """A risk of 1,000 at a stop 0.1 away, 5 bp each way: 5001.25 units long, not 10,000."""
    portfolio_id = await ready(client, 1e6, lot=1.0, stop_risk_max=0.001)
    await client.set_limits(
        portfolio_service_pb2.Scope(portfolio_id=portfolio_id), allow_short=True, fee_rate=5e-4
    )
    lines = {"side": [side], "win_probability": [0.9], "stop_price": [stop]}
    request = sizing_request(portfolio_id, ["I3"], lines, validate_only=True)  # price 100
    decision = await client.size(request)
    assert stage(decision, "STOP_RISK") == pytest.approx([(3 - 2 * side) * 0.1 / loss], rel=1e-9)
    assert abs(decision.sizes.lots[0]) == math.floor(1000 / loss)
    assert decision.sizes.binding[0] == types_pb2.LIMIT_KIND_STOP_RISK
