"""Which new sizing parameters need a second person: those that may make stakes larger.

What is in force on a portfolio and a strategy is merged of several scopes, and a field that a scope
no longer sets falls back to what is more general. So merged parameters are compared, with and
without the new version: for each way in which its scope lies over more general ones, now or from
when it begins, and at each later time at which one of them changes as was decided before.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
from positionsizing.v1 import parameter_service_pb2 as pb

from compute.parameter_loosening import loosened
from server.calls.request_context import Call
from server.convert import parameters as convert
from server.portfolios import four_eyes
from server.portfolios.four_eyes import Approval
from storage.errors import VersionConflict
from storage.postgres import parameters
from storage.postgres.parameters import ParameterSet
from storage.postgres.proposals import Proposal


async def proposed_parameters(
    connection: asyncpg.Connection,
    call: Call,
    request: pb.SetParametersRequest,
    effective_time: datetime,
    approval: Approval | None,
) -> Proposal | None:
    """The proposal that new parameters become; None where they are to be stored now.

    Their scope stays locked. Errors: `VersionConflict`.
    """
    scope = (request.portfolio_id, request.strategy_id)
    version = await parameters.lock(connection, call.tenant_id, *scope)
    if request.HasField("expected_version") and request.expected_version != version:
        id = "/".join(scope)
        raise VersionConflict("parameters", id, request.expected_version, version)
    more = list[str]()
    if approval is None:
        document = convert.document(request.parameters)
        for layers in await _stacks(connection, call.tenant_id, scope, effective_time):
            old = convert.effective(layer.document for layer in layers)
            general = [layer.document for layer in layers if _scope(layer) != scope]
            more += loosened(old, convert.effective([document, *general]))
    return await four_eyes.proposed(
        connection,
        call,
        request,
        version=version,
        loosened=[f"parameters.{name}" for name in dict.fromkeys(more)],
        approval=approval,
        portfolio_id=request.portfolio_id,
    )


async def _stacks(
    connection: asyncpg.Connection,
    tenant_id: str,
    scope: tuple[str, str],
    effective_time: datetime,
) -> list[Sequence[ParameterSet]]:
    """What a new version of a scope would change: that scope and what is more general, in force at
    the same time, most special first."""
    portfolio_id, strategy_id = scope
    below = [strategy_id]
    if portfolio_id and not strategy_id:  # lies over the parameters of whichever strategy
        below += await parameters.strategies(connection, tenant_id)
    stacks, begin = list[Sequence[ParameterSet]](), max(effective_time, datetime.now(UTC))
    for strategy in below:
        mine = {"portfolio_id": portfolio_id, "strategy_id": strategy}
        later = await parameters.change_times(connection, tenant_id, **mine, after=begin)
        for time in (begin, *later):
            layers = await parameters.layers(connection, tenant_id, **mine, time=time)
            if strategy != strategy_id:  # that of this strategy alone lies over the scope
                layers = [layer for layer in layers if _scope(layer) != (portfolio_id, strategy)]
            own = next((layer for layer in layers if _scope(layer) == scope), None)
            if own is None or own.effective_time <= effective_time:
                stacks.append(layers)
    return stacks


def _scope(layer: ParameterSet) -> tuple[str, str]:
    return layer.portfolio_id, layer.strategy_id
