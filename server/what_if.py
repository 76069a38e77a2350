"""Variations of one request, sized but never recorded."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from positionsizing.v1 import sizing_service_pb2 as pb
from positionsizing.v1 import types_pb2

from compute.currency import in_base
from compute.kernels import TOGETHER
from compute.limits.bounds import prepare
from compute.limits.guard import Guard
from compute.limits.policy import tightest
from compute.market import Floats, Market, MissingInputError
from compute.methods import Engine, Method
from compute.optimize.time_limit import TimeLimit
from compute.parameters import EffectiveParameters, overlaid
from compute.signals import Signals
from server.convert import algorithm as algorithm_convert
from server.convert import limits as limits_convert
from server.convert import parameters as parameters_convert
from server.convert.ranges import number_violations
from server.custom import without_sizes
from server.errors import FieldViolation, Refusal, invalid, invalid_fields
from server.halt import unless_changed
from server.portfolio_state import PortfolioState
from server.prepared_request import PreparedRequest, SizedRequest
from server.reading import check_bytes
from server.request_context import Call
from server.shocks import Multipliers, multipliers, shock_violations
from server.sizing_engine import SizingEngine

VARIATIONS_MAX = 1000


class WhatIf:
    """Answers what-ifs."""

    def __init__(self, engine: SizingEngine) -> None:
        self._engine = engine

    async def answer(self, call: Call, request: pb.WhatIfRequest) -> pb.WhatIfResponse:
        """The base and every variation, all from one state."""
        _check(request)
        self._engine.check(request.base, "base.")
        key = call.tenant_id, request.base.portfolio_id, request.base.strategy_id

        async def states() -> list[PortfolioState]:
            return [await self._engine.states.portfolio(*key)]

        return await unless_changed(states, lambda found: self._answer(call, request, found[0]))

    async def _answer(
        self, call: Call, request: pb.WhatIfRequest, state: PortfolioState
    ) -> pb.WhatIfResponse:
        try:
            solved = await self._engine.solve(call.tenant_id, request.base, state, call)
        except Refusal as refusal:
            raise refusal.within("base.") from refusal
        market = solved.problem.inputs.limit_bounds.market
        if wrong := list(shock_violations(request.variations, market)):
            raise invalid_fields(wrong)
        response = pb.WhatIfResponse(base=solved.decision())
        one = _result("", solved).ByteSize() + 8
        n_bytes = response.ByteSize() + one * len(request.variations)
        check_bytes(n_bytes, call.bytes_max, is_estimate=True)

        n_lines = len(request.base.signals.instrument_ids)
        base = solved.problem.method.engine
        for start in range(0, len(request.variations), TOGETHER):
            piece = request.variations[start : start + TOGETHER]
            work = partial(self._vary, solved.problem, piece)
            asked = [Method(v.parameters.method) for v in piece if v.parameters.method]
            engines = {method.engine for method in asked}
            if len(asked) < len(piece):
                engines.add(base)
            is_joint = Engine.OPTIMIZER in engines
            if Engine.OUTSIDE in engines:
                response.results.extend(await self._ask(solved.problem, piece, call))
                continue
            results = await self._engine.run(work, n_lines, call, is_joint=is_joint)
            response.results.extend(results)
        return response

    async def _ask(
        self, problem: PreparedRequest, variations: Sequence[pb.Variation], call: Call
    ) -> list[pb.WhatIfResult]:
        """Variations one by one, each with the sizes that its algorithm gives it."""
        n_lines = len(problem.ids)

        async def result(variation: pb.Variation) -> pb.WhatIfResult:
            try:
                changed = await self._engine.run(
                    lambda _: varied(problem, variation), n_lines, call
                )
                changed = await self._engine.with_algorithm(changed, call)
                is_joint = changed.method.engine is Engine.OPTIMIZER
                solved = await self._engine.run(
                    lambda limit: self._engine.answer(changed, limit),
                    n_lines,
                    call,
                    is_joint=is_joint,
                )
            except (MissingInputError, Refusal) as error:
                return _refused(variation.name, error)
            return _result(variation.name, solved)

        return [await result(variation) for variation in variations]

    def _vary(
        self, problem: PreparedRequest, variations: Sequence[pb.Variation], time_limit: TimeLimit
    ) -> list[pb.WhatIfResult]:
        """The variations in one compiled call; one by one where any of them can't be sized."""
        try:
            problems = [varied(problem, each) for each in variations]
            solved = self._engine.answers(problems, time_limit)
            return [_result(v.name, s) for v, s in zip(variations, solved, strict=True)]
        except (MissingInputError, Refusal) as error:
            if len(variations) == 1:
                return [_refused(variations[0].name, error)]
            return [
                result for each in variations for result in self._vary(problem, [each], time_limit)
            ]


def _result(name: str, solved: SizedRequest) -> pb.WhatIfResult:
    decision = solved.decision()
    return pb.WhatIfResult(
        name=name, status=decision.status, sizes=decision.sizes, summary=decision.summary
    )


def _refused(name: str, error: MissingInputError | Refusal) -> pb.WhatIfResult:
    status = types_pb2.SIZING_STATUS_REFUSED
    if error.reason == "INFEASIBLE_LIMITS":
        status = types_pb2.SIZING_STATUS_INFEASIBLE
    return pb.WhatIfResult(name=name, status=status, message=str(error))


def _check(request: pb.WhatIfRequest) -> None:
    count = len(request.variations)
    if not 1 <= count <= VARIATIONS_MAX:
        text = f"has {count} entries; 1 to {VARIATIONS_MAX} are accepted"
        raise invalid("variations", "OUT_OF_RANGE", text)
    found: list[FieldViolation] = []
    for position, variation in enumerate(request.variations):
        path = f"variations[{position}]"
        found += number_violations(variation, path)
        found += parameters_convert.model_violations(variation.parameters, f"{path}.parameters")
        found += parameters_convert.violations(variation.parameters, f"{path}.parameters")
        found += limits_convert.violations(variation.limits, f"{path}.limits")
        found += limits_convert.book_only_violations(variation.limits, f"{path}.limits")
    if found:
        raise invalid_fields(found)


def varied(problem: PreparedRequest, variation: pb.Variation) -> PreparedRequest:
    """The problem with one variation applied; an algorithm of the base has to be asked again."""
    problem = without_sizes(problem)
    context, inputs = problem.context, problem.inputs
    factors = multipliers(variation, problem.ids, inputs.limit_bounds.market)
    prices = _priced(inputs.limit_bounds.market, factors.price)
    book = inputs.limit_bounds.positions
    equity = variation.equity_multiplier if variation.HasField("equity_multiplier") else 1.0
    moved = _gained(inputs.limit_bounds.market, prices, book.held * equity)
    book = replace(
        book,
        held=book.held * equity,
        open_buy=book.open_buy * equity,
        open_sell=book.open_sell * equity,
        cash=book.cash * equity,
        cash_reserved=book.cash_reserved * equity,
        gains=book.gains * equity + moved,
    )
    limits = inputs.limit_bounds.limits
    if variation.HasField("limits"):
        limits = tightest([limits, in_base(limits_convert.limits(variation.limits), prices.rates)])
    parameters = overlaid(inputs.parameters, parameters_convert.parameters(variation.parameters))
    signals = _edged(inputs.signals, parameters, factors)
    limit_bounds = prepare(prices, book, limits, context.shared)
    changed = replace(
        inputs,
        signals=signals,
        limit_bounds=limit_bounds,
        parameters=parameters,
        target=None,  # of the base, not of this
        target_binding=None,
        target_marginal=None,
    )
    guard = Guard(prices, book, limit_bounds.limits, context.shared)
    method = problem.method
    if variation.parameters.method:
        method = Method(variation.parameters.method)
    chosen = problem.algorithm
    if variation.parameters.HasField("algorithm"):
        chosen = algorithm_convert.choice(variation.parameters.algorithm)
    return replace(
        problem,
        inputs=changed,
        guard=guard,
        method=method,
        algorithm=chosen,
        context=replace(context, parameters=parameters),
    )


def _priced(market: Market, multiplier: Floats) -> Market:
    if (multiplier == 1.0).all():
        return market
    if market.contracts is None:
        return replace(market, price=market.price * multiplier)
    contracts = market.contracts.shifted(multiplier)
    return replace(market, price=contracts.exposure, contracts=contracts)


def _gained(before: Market, after: Market, held: Floats) -> float:
    """What futures gain between two markets."""
    if before.contracts is None or after.contracts is None:
        return 0.0
    return float(after.contracts.gains(held, before.contracts.quote).sum())


def _edged(signals: Signals, parameters: EffectiveParameters, factors: Multipliers) -> Signals:
    """Signals with edges and volatilities multiplied."""
    edge, volatility = factors.edge, factors.volatility
    is_edged = bool((edge != 1.0).any())
    changes: dict[str, Any] = {}
    if signals.volatility is not None and (volatility != 1.0).any():
        changes["volatility"] = signals.volatility * volatility
    if signals.expected_return is not None and is_edged:
        rate = parameters.risk_free_rate
        changes["expected_return"] = rate + edge * (signals.expected_return - rate)
    if signals.win_probability is not None and signals.payoff is not None and is_edged:
        loss = 1.0 if signals.loss_fraction is None else signals.loss_fraction
        fair = loss / (loss + signals.payoff)
        changes["win_probability"] = np.clip(
            fair + edge * (signals.win_probability - fair), 0.0, 1.0
        )
    return replace(signals, **changes)
