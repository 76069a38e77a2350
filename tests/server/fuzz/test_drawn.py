"""Every limit and sizing parameter of the contract is drawn by a fuzz, or it is said why not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from positionsizing.v1 import limits_pb2, parameter_service_pb2

from tests.server.support.statable_limits import STATABLE, stated
from tests.server.support.trader_books import TRADERS
from tests.server.support.wide_books import drawn
from tests.server.support.wide_parameters import FROM

SEEDS = range(FROM, FROM + 1200)
CLUSTERS_OTHERWISE = {
    *("clusters.cluster_count", "clusters.opposites_are_alike", "clusters.net_weight_min"),
}
"""Clusters are made in one way alone here; the others are for tests of clusters."""
ELSEWHERE = {
    # Said by the request, and by models and conditions that are stored: drawn where these are.
    *("method", "algorithm", "condition_rules", "schedule", "volatility_model"),
    *("edge_model_id", "size_model_id", "covariance_universe"),
    # Of times and of what is refused before anything is sized.
    *("reservation_ttl", "market_age_max", "portfolio_age_max", "matrix_age_max", "edge_half_life"),
    *("price_jump_max", "equity_jump_max", "fill_deviation_max", "edge_gone_action"),
    # By instrument, drawn for problems of the solver.
    *("joint_objective.budgets", "joint_objective.shares"),
}


def fields(kind: Descriptor, prefix: str = "") -> Iterator[str]:
    """The fields of a message and of the messages of this contract in it, by their path."""
    for field in kind.fields:
        path = f"{prefix}{field.name}"
        inner = field.message_type
        own = inner is not None and inner.full_name.startswith("positionsizing")
        if own and prefix.count(".") == 0 and path not in ELSEWHERE:
            yield from fields(inner, f"{path}.")
        else:
            yield path


def said(message: Message, prefix: str = "") -> Iterator[str]:
    """The fields that are set, in the same way."""
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        yield path
        if field.message_type is not None:
            inner: Any = value if field.is_repeated else [value]
            for one in inner:
                yield from said(one, f"{path}.")


def test_every_limit_is_drawn() -> None:
    seen: set[str] = set()
    for seed in SEEDS:
        case = drawn(seed)
        for limits in (case.stored, *case.asked):
            seen.update(said(limits) if limits is not None else ())
    for place in range(len(STATABLE)):
        own, asked = stated(((place, 1),), TRADERS[0], [False])
        seen.update([*said(own), *said(asked)])
    assert set(fields(limits_pb2.Limits.DESCRIPTOR)) - seen == CLUSTERS_OTHERWISE


def test_every_sizing_parameter_is_drawn() -> None:
    seen: set[str] = set()
    for seed in SEEDS:
        seen.update(said(drawn(seed).parameters))
    assert set(fields(parameter_service_pb2.SizingParameters.DESCRIPTOR)) - seen == ELSEWHERE
