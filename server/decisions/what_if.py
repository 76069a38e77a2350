"""Variations of one request, sized but never recorded."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from positionsizing.v1 import sizing_service_pb2 as pb
from positionsizing.v1 import types_pb2

from compute.inputs import Inputs
from compute.limits.bounds import prepare
from compute.limits.cluster_limits import find_clusters, with_clusters
from compute.limits.stress_limits import StressEvent, with_stress
from compute.limits.tightest import tightest
from compute.market import Floats, Market, MissingInputError
from compute.methods import Engine, Method
from compute.money.currency import in_base
from compute.optimize.time_limit import TimeLimit
from compute.parameters import EffectiveParameters, overlaid
from compute.signals import LineError, Signals
from compute.waterfall.usable import check_book, passed_stops
from server.calls.errors import FieldViolation, Refusal, invalid, invalid_fields, of_storage
from server.calls.halt import unless_changed
from server.calls.reading import check_bytes
from server.calls.request_context import Call
from server.convert import algorithm as algorithm_convert
from server.convert import limits as limits_convert
from server.convert import parameters as parameters_convert
from server.convert.ranges import number_violations
from server.convert.request import check, sizing_request
from server.convert.variation_parameters import not_applicable, reaches_back
from server.decisions.shocks import Multipliers, multipliers, shock_violations
from server.decisions.varied_floors import with_floors
from server.portfolios.portfolio_state import PortfolioState
from server.risk.stress import scenarios_of
from server.sizing.custom import without_sizes
from server.sizing.engine import TOGETHER_MAX, SizingEngine
from server.sizing.prepared_request import PreparedRequest
from server.sizing.request import SizingRequest, path_of, violations_of
from server.sizing.sized_request import SizedRequest
from storage.errors import NotFound

VARIATIONS_MAX = 1000
REFUSED_MAX = 10
"""Refused lines of a variation that its message tells of."""

_Start = PreparedRequest | MissingInputError | Refusal
"""What a variation is applied to, or why there is nothing."""
_Varied = tuple[pb.Variation, _Start]


class WhatIf:
    """Answers what-ifs."""

    def __init__(self, engine: SizingEngine) -> None:
        self._engine = engine

    async def answer(self, call: Call, request: pb.WhatIfRequest) -> pb.WhatIfResponse:
        """The base and every variation, all from one state."""
        _check(request)
        check(request.base, self._engine.lines_max, "base.")
        base = sizing_request(request.base)
        key = call.tenant_id, request.base.portfolio_id, request.base.strategy_id

        async def states() -> list[PortfolioState]:
            return [await self._engine.gatherer.states.portfolio(*key)]

        return await unless_changed(
            states, lambda found: self._answer(call, request, base, found[0])
        )

    async def _answer(
        self, call: Call, request: pb.WhatIfRequest, base: SizingRequest, state: PortfolioState
    ) -> pb.WhatIfResponse:
        try:
            solved = await self._engine.solve(call, base, state)
        except Refusal as refusal:
            raise refusal.within("base.") from refusal
        market = solved.problem.inputs.limit_bounds.market
        if wrong := list(shock_violations(request.variations, market)):
            raise invalid_fields(wrong)
        response = pb.WhatIfResponse(base=solved.decision.message())
        named = scenarios_of(*(limits_convert.limits(v.limits) for v in request.variations))
        names = (*base.instrument_ids, *state.own_instrument_ids)
        events = await self._engine.gatherer.stress(call, named, names)
        problem = with_events(solved.problem, events)
        one = result("", solved).ByteSize() + 8
        n_bytes = response.ByteSize() + one * len(request.variations)
        check_bytes(n_bytes, call.bytes_max, is_estimate=True)

        n_lines, engine = base.n_lines, solved.problem.inputs.method.engine
        for start in range(0, len(request.variations), TOGETHER_MAX):
            piece = [
                (variation, await self._start(call, problem, variation, state))
                for variation in request.variations[start : start + TOGETHER_MAX]
            ]
            asked = [Method(v.parameters.method) for v, _ in piece if v.parameters.method]
            engines = {method.engine for method in asked}
            if len(asked) < len(piece):
                engines.add(engine)
            is_joint = Engine.OPTIMIZER in engines
            mark = state.high_water_mark or 0.0
            if Engine.OUTSIDE in engines:
                response.results.extend(await self._ask(piece, call, mark))
                continue
            work = partial(self._vary, piece, mark)
            results = await self._engine.run(work, n_lines, call, is_joint=is_joint)
            response.results.extend(results)
        return response

    async def _start(
        self, call: Call, base: PreparedRequest, variation: pb.Variation, state: PortfolioState
    ) -> _Start:
        """What a variation is applied to: the base, or the request under other parameters.

        An error where there is nothing to size under them.
        """
        said = variation.parameters
        if not reaches_back(said):
            return base
        parameters = overlaid(state.parameters, parameters_convert.parameters(said))
        request = base.request
        if said.method:
            request = replace(request, method=Method(said.method))
        gatherer = self._engine.gatherer
        try:
            found = await gatherer.gather_under(call, request, state, parameters)
            made = await self._engine.run(lambda _: gatherer.prepared(found), request.n_lines, call)
            return with_events(made, base.context.stress)
        except (MissingInputError, Refusal) as error:
            return error
        except NotFound as error:
            return of_storage(error)

    async def _ask(
        self, piece: Sequence[_Varied], call: Call, mark: float
    ) -> list[pb.WhatIfResult]:
        """Variations one by one, each with the sizes that its algorithm gives it."""

        async def asked(variation: pb.Variation, start: _Start) -> pb.WhatIfResult:
            try:
                problem = _usable(start)
                n_lines = len(problem.ids)
                changed = await self._engine.run(
                    lambda _: varied(problem, variation, mark), n_lines, call
                )
                changed = await self._engine.with_algorithm(changed, call)
                is_joint = changed.inputs.method.engine is Engine.OPTIMIZER
                solved = await self._engine.run(
                    lambda limit: self._engine.answer(changed, limit),
                    n_lines,
                    call,
                    is_joint=is_joint,
                )
            except (MissingInputError, Refusal) as error:
                return refused(variation.name, error)
            return result(variation.name, solved)

        return [await asked(variation, start) for variation, start in piece]

    def _vary(
        self, piece: Sequence[_Varied], mark: float, time_limit: TimeLimit
    ) -> list[pb.WhatIfResult]:
        """The variations together; one by one where any of them can't be sized."""
        try:
            problems = [varied(_usable(start), each, mark) for each, start in piece]
            solved = self._engine.answers(problems, time_limit)
            return [result(v.name, s) for (v, _), s in zip(piece, solved, strict=True)]
        except (MissingInputError, Refusal) as error:
            if len(piece) == 1:
                return [refused(piece[0][0].name, error)]
            return [result for each in piece for result in self._vary([each], mark, time_limit)]


def _usable(start: _Start) -> PreparedRequest:
    """Raises the error where it is one."""
    if isinstance(start, PreparedRequest):
        return start
    raise start


def result(name: str, solved: SizedRequest) -> pb.WhatIfResult:
    """What a variation came to."""
    decision = solved.decision.message()
    told = [f"{path_of(error)}: {error.message}" for error in solved.problem.errors[:REFUSED_MAX]]
    return pb.WhatIfResult(
        name=name,
        status=decision.status,
        sizes=decision.sizes,
        summary=decision.summary,
        message="; ".join(told),
    )


def refused(name: str, error: MissingInputError | Refusal) -> pb.WhatIfResult:
    """A variation that can't be sized, and why."""
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
        wrong = list(parameters_convert.violations(variation.parameters, f"{path}.parameters"))
        found += wrong or not_applicable(variation.parameters, f"{path}.parameters")
        found += limits_convert.violations(variation.limits, f"{path}.limits")
        found += limits_convert.book_only_violations(variation.limits, f"{path}.limits")
    if found:
        raise invalid_fields(found)


def varied(
    problem: PreparedRequest, variation: pb.Variation, mark: float | None = None
) -> PreparedRequest:
    """The problem with one variation applied; an algorithm of the base has to be asked again.

    mark: high-water mark, 0 where there is none, for floors that are held against the varied
    equity; None: what they took off stays as it is recorded.
    """
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
    if limits.clusters:  # those of the variation: of the base they are groups already
        sized = inputs.index[inputs.active]
        found = find_clusters(limits, prices, book, sized, inputs.returns)
        limits = with_clusters(limits, found)
    if limits.joint.stress:  # of the base they are rows already
        places = np.union1d(book.taken, inputs.index[inputs.active])
        names = [prices.instrument_ids[place] for place in places]
        limits = with_stress(limits, context.stress, names, inputs.returns)
    check_book(prices, book, parameters.risk_budget, limits)
    limit_bounds = prepare(prices, book, limits, context.shared)
    method = inputs.method
    if variation.parameters.method:
        method = Method(variation.parameters.method)
    changed = replace(
        inputs,
        method=method,
        signals=signals,
        limit_bounds=limit_bounds,
        parameters=parameters,
        target=None,  # of the base, not of this
        target_binding=None,
        target_marginal=None,
        lot_search=None,
    )
    adjustments = context.adjustments
    if mark is not None:
        changed, adjustments = with_floors(problem, changed, equity, mark)
    changed, errors = _without_passed_stops(problem, changed)
    chosen = problem.algorithm
    if variation.parameters.HasField("algorithm"):
        chosen = algorithm_convert.choice(variation.parameters.algorithm)
    return replace(
        problem,
        inputs=changed,
        errors=errors,
        algorithm=chosen,
        context=replace(context, parameters=changed.parameters, adjustments=adjustments),
    )


def with_events(problem: PreparedRequest, events: Sequence[StressEvent]) -> PreparedRequest:
    """With stress scenarios that variations name, beside those of its own, which stay as read."""
    own = {event.scenario_id for event in problem.context.stress}
    more = tuple(event for event in events if event.scenario_id not in own)
    if not more:
        return problem
    return replace(problem, context=replace(problem.context, stress=problem.context.stress + more))


def _without_passed_stops(
    problem: PreparedRequest, inputs: Inputs
) -> tuple[Inputs, list[LineError]]:
    """The varied inputs without lines whose stop the varied price has passed, and all line errors.

    A request at that price is refused in the same way (`assembly.assemble`).
    """
    market, index = inputs.limit_bounds.market, inputs.index
    found = passed_stops(inputs.signals, index, market, inputs.parameters)
    passed = [error for error in found if inputs.active[error.line]]
    if not passed:
        return inputs, problem.errors
    active = inputs.active.copy()
    active[[error.line for error in passed]] = False
    if problem.request.all_or_nothing or not active.any():
        raise invalid_fields(violations_of(passed))
    return replace(inputs, active=active), [*problem.errors, *passed]


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
