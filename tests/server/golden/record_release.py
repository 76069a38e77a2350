"""Records the golden database of a release: decisions that later releases have to replay.

    PYTHONPATH=.:protos/python:tests:tests/server:tests/server/golden \
      python tests/server/golden/record_release.py tests/server/golden/schema_0004

Long positions only, with room under every limit that later releases have made stricter, so that a
replay has no reason to differ.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from positionsizing.v1 import (
    limits_pb2,
    optimization_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    types_pb2,
)

from compute.optimize.kernels import joint_kernels
from compute.shapes import KernelRegistry
from compute.waterfall.kernels import registry
from storage import embedded
from storage.postgres.migrations import migrate
from tests.fixtures_kernels import JOINT, kept_programs, small
from tests.server.golden import tables
from tests.server.support.random_world import NAMES, World
from tests.server.support.service_client import Client, new_id, sizing_request, started

DECISIONS, JOINT_DECISIONS = 60, 15


class LongWorld(World):
    """A world without short positions."""

    def limits(self) -> dict[str, Any]:
        return super().limits() | {"allow_short": False, "allow_flip": False}

    async def new_portfolio(self, group: str) -> None:
        names = self.rng.choice(NAMES, 3, replace=False)
        held = {name: round(float(self.rng.uniform(0.0, 800.0)), 2) for name in names}
        self.portfolios.append(await self.client.put_portfolio(1e6, held, group_id=group))
        await self.new_limits(self.portfolios[-1])

    def request(self, portfolio_id: str) -> Any:
        request = super().request(portfolio_id)
        request.signals.side[:] = [1] * len(request.signals.instrument_ids)
        return request


async def joint_decision(world: LongWorld, number: int) -> None:
    """A joint decision on a portfolio of its own, within limits on the whole portfolio."""
    rng, client = world.rng, world.client
    portfolio_id = await client.put_portfolio(1e6, {NAMES[number % len(NAMES)]: 100.0})
    limits = limits_pb2.Limits(weight_max=float(rng.uniform(0.1, 0.4)), leverage_max=1.0)
    if number % 3 == 0:
        limits.joint.CopyFrom(limits_pb2.JointLimits(cvar_max=0.05))
    await client.portfolio.SetLimits(
        portfolio_service_pb2.SetLimitsRequest(
            scope=portfolio_service_pb2.Scope(portfolio_id=portfolio_id), limits=limits
        )
    )
    parameters = parameter_service_pb2.SizingParameters(kelly_fraction=float(rng.uniform(0.2, 1)))
    if number % 4 == 1:
        parameters.joint_objective.CopyFrom(
            optimization_service_pb2.Objective(
                kind=optimization_service_pb2.OBJECTIVE_KIND_MAX_SHARPE
            )
        )
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )
    names = rng.choice(NAMES, 6, replace=False).tolist()
    signals = {
        "expected_return": rng.uniform(0.002, 0.02, 6),
        "volatility": rng.uniform(0.05, 0.2, 6),
        "win_probability": [],
        "payoff": [],
    }
    request = sizing_request(
        portfolio_id,
        names,
        signals,
        market_snapshot_id=world.market,
        scenario_matrix_id=world.scenarios,
        method=types_pb2.SIZING_METHOD_JOINT,
    )
    await client.size(request)


async def fill(client: Client) -> None:
    """Every kind of decision."""
    world = LongWorld(client, np.random.default_rng(4))
    await world.new_market()
    await world.new_scenarios()
    group = new_id("group")
    shared = portfolio_service_pb2.SharedLimits(gross_notional_max=3e6)
    await client.set_limits(portfolio_service_pb2.Scope(group_id=group), shared=shared)
    for number in range(6):
        await world.new_portfolio(group if number % 2 else "")
    for _ in range(DECISIONS):
        await world.change_something()
        await world.decide()
    for number in range(JOINT_DECISIONS):
        await joint_decision(world, number)


async def main(folder: Path) -> None:
    """Starts a service, has it decide, and dumps its database."""
    kernels = KernelRegistry(
        [*(small(kernel) for kernel in registry().kernels), *joint_kernels(JOINT)]
    )
    with kept_programs():
        kernels.compile()
    with tempfile.TemporaryDirectory() as temporary:
        server = embedded.start(Path(temporary) / "postgres")
        try:
            version = await migrate(server.dsn)
            settings = {"joint_assets": (16,), "joint_scenarios": (64,)}
            async with started(server, kernels, Path(temporary), **settings) as app:
                async with Client.connected(app.port) as client:
                    await fill(client)
                assert app.config.dsn is not None
                await tables.dump(app.config.dsn.get_secret_value(), folder)
        finally:
            server.stop()
    (folder / "about.json").write_text(json.dumps({"schema_version": version}) + "\n")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(target))
