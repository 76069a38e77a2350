"""Names of limits are data: whatever a caller calls one, it binds, has its price and is named."""

import pytest
from positionsizing.v1 import limits_pb2, types_pb2
from positionsizing.v1 import optimization_service_pb2 as pb

from tests.server.joint.test_joint import Joint, joint_request, optimize, problem, scenarios
from tests.server.joint.test_joint_truth import set_parameters, stored
from tests.server.support.service_client import Client, new_id, refusal

NAMES = [
    *("upper[0]", "lower[99]", "upper[0] max", "a[b]", "[", "trade_max[1]", "linear upper[1]"),
    *("cash", "group x", "portfolio gross", "turnover_max cut 1", "cvar_max cut 2", "risk budget"),
]


def row(name: str, **bounds: float) -> limits_pb2.LinearLimit:
    """Of the second instrument."""
    return limits_pb2.LinearLimit(name=name, instrument_ids=["I1"], coefficients=[2.0], **bounds)


@pytest.mark.parametrize("name", NAMES)
async def test_a_decision_names_it(joint_client: Client, name: str) -> None:
    matrix = scenarios(4, matrix_id=new_id("matrix"))
    group = limits_pb2.GroupLimit(name=name, instrument_ids=["I2"], gross_weight_max=0.25)
    given = {"leverage_max": 0.8, "groups": [group], "joint": Joint(linear=[row(name, upper=0.3)])}
    portfolio_id = await stored(joint_client, matrix, **given)
    await set_parameters(joint_client, portfolio_id, kelly_fraction=1.0)
    request = joint_request(portfolio_id, matrix.matrix_id, 4, validate_only=True)
    decision = await joint_client.size(request)
    sizes = decision.sizes
    kinds = [types_pb2.LIMIT_KIND_LINEAR, types_pb2.LIMIT_KIND_GROUP_GROSS_MAX]
    assert list(sizes.binding[1:3]) == kinds
    assert [sizes.group_names[place - 1] for place in sizes.binding_group[1:3]] == [name, name]
    assert list(sizes.binding_bound[1:3]) == [0.3, 0.25]
    least = limits_pb2.Limits(joint=Joint(linear=[row(name, lower=1.9)]), leverage_max=0.5)
    found = await refusal(
        joint_client.size(joint_request(portfolio_id, matrix.matrix_id, 4, limits=least))
    )
    assert found.reason == "INFEASIBLE_LIMITS"
    assert name in found.message


@pytest.mark.parametrize("name", NAMES)
async def test_an_optimum_names_it(joint_client: Client, name: str) -> None:
    answer = await optimize(joint_client, problem(limits=Joint(linear=[row(name, upper=0.1)])))
    assert answer.status == pb.OPTIMIZATION_STATUS_OPTIMAL
    prices = {price.limit: price for price in answer.certificate.shadow_prices}
    found = prices[f"{name} max"]
    assert found.kind == types_pb2.LIMIT_KIND_LINEAR
    assert found.bound == 0.1
    assert found.price_low > 0.0
    answer = await optimize(
        joint_client, problem(limits=Joint(linear=[row(name, lower=0.9)]), gross_max=0.3)
    )
    assert answer.status == pb.OPTIMIZATION_STATUS_INFEASIBLE
    assert f"{name} min" in answer.explanation.conflict
