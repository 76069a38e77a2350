"""Strategies that are mixed, between the contract and the domain."""

from collections.abc import Iterator
from math import log, log1p

import numpy as np
from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.universal import best_mixture, by_wealth, node_count, trading_costs, universal
from server.calls.errors import FieldViolation
from server.convert.columns import floats
from server.convert.names import text_violations
from server.convert.ranges import number_violations

STRATEGIES_MAX, PERIODS_MAX = 100, 10_000
UNIVERSAL_MAX, NODES_MAX = 5, 200_000
"""Strategies of UNIVERSAL, and the mixtures that its integral takes."""
SHARE = 0.01


def violations(request: pb.MixStrategiesRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request, by field path."""
    yield from number_violations(request)
    if request.kind not in pb.MixKind.values():
        yield FieldViolation("kind", "UNKNOWN_VALUE", "is not known")
    is_universal = request.kind == pb.MIX_KIND_UNIVERSAL
    least, most = (1, UNIVERSAL_MAX) if is_universal else (2, STRATEGIES_MAX)
    count = len(request.strategies)
    if not least <= count <= most:
        text = f"has {count} entries; from {least} to {most} are accepted"
        yield FieldViolation("strategies", "OUT_OF_RANGE", text)
        return
    for name, is_given, is_used in (
        ("share", request.HasField("share"), request.kind == pb.MIX_KIND_FIXED_SHARE),
        ("even_prior", request.even_prior, is_universal),
    ):
        if is_given and not is_used:
            yield FieldViolation(name, "NOT_APPLICABLE", "is not of this kind")
    periods = len(request.strategies[0].returns)
    if is_universal and count > 2 and node_count(periods, count) > NODES_MAX:
        text = f"are too many for {periods} periods: {node_count(periods, count)} mixtures to go "
        yield FieldViolation("strategies", "TOO_MANY", f"{text}through, at most {NODES_MAX}")
        return
    for place, item in enumerate(request.strategies):
        path = f"strategies[{place}]"
        yield from text_violations(item.name, f"{path}.name")
        if not 1 <= len(item.returns) <= PERIODS_MAX:
            text = f"has {len(item.returns)} entries; from 1 to {PERIODS_MAX} are accepted"
            yield FieldViolation(f"{path}.returns", "OUT_OF_RANGE", text)
        elif len(item.returns) != periods:
            text = f"has {len(item.returns)} entries; the first has {periods}"
            yield FieldViolation(f"{path}.returns", "LENGTH_MISMATCH", text)


def mixed(request: pb.MixStrategiesRequest) -> pb.MixStrategiesResponse:
    """The answer to a checked request."""
    names = [item.name for item in request.strategies]
    relatives = np.stack([1.0 + floats(item.returns) for item in request.strategies], axis=1)
    if len(names) == 1:
        names.append("cash")
        relatives = np.concatenate([relatives, np.ones_like(relatives)], axis=1)
    periods, count = relatives.shape
    totals = np.log(relatives).sum(axis=0)
    best, best_share, best_weights = float(totals.max()), None, []
    if request.kind == pb.MIX_KIND_UNIVERSAL:
        divided = universal(relatives, 1.0 if request.even_prior else 0.5)
        mixture, best = best_mixture(relatives)
        best_weights, best_share = mixture.tolist(), float(mixture[0])
        most = (count - 1.0) * log(periods + 1.0)
        regret_max = most if request.even_prior else 0.5 * most + log(2.0)
    else:
        share = 0.0
        if request.kind == pb.MIX_KIND_FIXED_SHARE:
            share = request.share if request.HasField("share") else SHARE
        divided = by_wealth(relatives, share)
        regret_max = log(count) - periods * log1p(-share)
    made = float(divided.log_wealth[-1])
    costs = trading_costs(divided, relatives, request.cost_rate)
    return pb.MixStrategiesResponse(
        names=names,
        next_weights=divided.weights[-1],
        log_wealth=divided.log_wealth,
        log_wealth_net=made + float(costs.sum()),
        strategy_log_wealth=totals,
        best_log_wealth=best,
        best_share=best_share,
        best_weights=best_weights,
        regret=best - made,
        regret_max=regret_max,
    )
