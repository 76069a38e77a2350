"""SimulationService: backtests and simulated futures, in a process of their own."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import numpy as np
from positionsizing.v1 import simulation_service_pb2 as pb

from server.calls.errors import invalid, invalid_fields
from server.calls.reading import check_bytes
from server.calls.request_context import Call
from server.convert import simulation as convert
from server.convert import trials as trials_convert
from server.convert.columns import set_floats
from server.convert.job import METHODS
from server.convert.names import checked_id, optional_moment
from server.jobs.worker import Worker
from server.risk.histories import Span, lent_by, read
from server.risk.stress import in_shocks, read_stored, unknown_scenarios
from server.simulation.beside import benchmark_violations
from server.simulation.trials import METHODS as COUNTED
from server.simulation.trials import keep_tried
from server.simulation.tune import tune_violations
from storage.postgres import trials
from storage.postgres.pool import Database

NANOSECONDS = 1e9
LISTED_DEFAULT = 100
TELL_S = 0.2
"""Work that is followed is looked at so often."""
Request = pb.RunBacktestRequest | pb.TuneParametersRequest | pb.SimulateGrowthRequest


class SimulationService:
    """See `protos/positionsizing/v1/simulation_service.proto`."""

    def __init__(self, database: Database, worker: Worker) -> None:
        self._database = database
        self._worker = worker

    async def run_backtest(self, call: Call, request: pb.RunBacktestRequest) -> bytes:
        """Settings through a history."""
        return await self._run(call, "RunBacktest", request)

    async def tune_parameters(self, call: Call, request: pb.TuneParametersRequest) -> bytes:
        """Parameters searched on a history, and how much of what was found is luck."""
        return await self._run(call, "TuneParameters", request)

    async def simulate_growth(self, call: Call, request: pb.SimulateGrowthRequest) -> bytes:
        """Futures of fractions of Kelly."""
        return await self._run(call, "SimulateGrowth", request)

    async def list_trials(self, call: Call, request: pb.ListTrialsRequest) -> pb.ListTrialsResponse:
        """What was tried in an experiment, and who looked at its locked sessions."""
        if found := list(trials_convert.list_violations(request)):
            raise invalid_fields(found)
        limit = request.limit if request.HasField("limit") else LISTED_DEFAULT
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            key = (connection, call.tenant_id, request.experiment)
            counted, _ = await trials.totals(*key)
            return pb.ListTrialsResponse(
                trials_counted=counted,
                trials=map(trials_convert.trial_message, await trials.newest(*key, limit)),
                locked_openings=map(trials_convert.opening_message, await trials.openings(*key)),
            )

    async def follow_simulation(
        self, call: Call, request: pb.FollowSimulationRequest
    ) -> AsyncIterator[pb.FollowSimulationResponse | None]:
        """How far the work is whenever that has changed, and what came of it."""
        field = request.WhichOneof("work")
        if field is None:
            raise invalid("run_backtest", "MISSING", "give the work")
        checked = await self.ready(call, getattr(request, field))
        heard: list[float] = []
        work = asyncio.create_task(
            self._worker.run(METHODS[field], checked, deadline_s=call.left_s, told=heard.append)
        )
        try:
            yield pb.FollowSimulationResponse()
            before = 0
            while not (await asyncio.wait([work], timeout=TELL_S))[0]:
                is_news, before = len(heard) > before, len(heard)
                yield pb.FollowSimulationResponse(progress=heard[-1]) if is_news else None
            found = await self._kept(call, METHODS[field], work.result())
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        check_bytes(len(found), call.bytes_max)
        yield await asyncio.to_thread(_with_result, field, found)

    async def ready(self, call: Call, request: Request) -> Request:
        """A request of one of the methods, checked, with its prices in it. Raises `Refusal`."""
        if isinstance(request, pb.SimulateGrowthRequest):
            found = list(convert.growth_violations(request))
        elif isinstance(request, pb.TuneParametersRequest):
            found = list(tune_violations(request))
        else:
            found = [*convert.backtest_violations(request), *benchmark_violations(request)]
        if found:
            raise invalid_fields(found)
        if isinstance(request, pb.SimulateGrowthRequest):
            return request
        if request.WhichOneof("history") == "universe_id":
            request.prices.CopyFrom(await self._prices(call, request))
        await self._read_scenarios(call, request)
        return request

    async def _read_scenarios(
        self, call: Call, request: pb.RunBacktestRequest | pb.TuneParametersRequest
    ) -> None:
        """Puts the scenarios that limits name into a request, as shocks. Raises `Refusal`."""
        if isinstance(request, pb.TuneParametersRequest):
            settings = {"setting": request.setting}
        else:
            settings = {f"settings[{i}]": item for i, item in enumerate(request.settings)}
        named = {
            item.scenario_id: f"{place}.limits.joint.stress[{i}].scenario_id"
            for place, setting in reversed(settings.items())
            for i, item in enumerate(setting.limits.joint.stress)
        }
        given = {item.scenario_id: item for item in request.stress_scenarios}
        lend = lent_by(self._database, call)
        stored = await read_stored(lend, call, named.keys() - given.keys())
        known = {item.scenario_id: item for item in (*given.values(), *stored)}
        for place, setting in settings.items():
            path = f"{place}.limits.joint"
            if unknown := list(unknown_scenarios(setting.limits.joint, known, path)):
                raise invalid_fields(unknown)
        names = request.prices.instrument_ids
        del request.stress_scenarios[:]
        for item in known.values():
            path = named.get(item.scenario_id, "stress_scenarios")
            shocks = await in_shocks(lend, call, item, names, path)
            request.stress_scenarios.append(shocks)

    async def _run(self, call: Call, method: str, request: Request) -> bytes:
        work = await self.ready(call, request)
        if call.ticket is not None:  # its latency says nothing of how busy the server is
            call.ticket.takes_long()
        found = await self._worker.run(method, work, deadline_s=call.left_s)
        return await self._kept(call, method, found)

    async def _kept(self, call: Call, method: str, found: bytes) -> bytes:
        """The answer, after what was tried for it is counted."""
        if method not in COUNTED:
            return found
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            return await keep_tried(connection, call.tenant_id, call.author, found)

    async def _prices(
        self, call: Call, request: pb.RunBacktestRequest | pb.TuneParametersRequest
    ) -> pb.PriceTable:
        """The closes of a universe, a session a day."""
        universe = checked_id(request.universe_id, "universe_id")
        span = Span(known=optional_moment(request, "known_time", ""))
        history = await read(self._database, call, universe, span)
        if not history.is_prices:
            text = f"universe {universe!r} holds returns; a backtest needs prices"
            raise invalid("universe_id", "WRONG_KIND", text)
        times = [datetime.fromtimestamp(t / NANOSECONDS, UTC) for t in history.table.times.tolist()]
        table = pb.PriceTable(
            dates=[time.date().isoformat() for time in times],
            instrument_ids=history.table.instrument_ids,
        )
        set_floats(table, "close", np.nan_to_num(history.table.values).ravel())
        # Here, where the field is known that names them.
        await asyncio.to_thread(convert.checked_history, request, table, "universe_id")
        return table


def _with_result(field: str, content: bytes) -> pb.FollowSimulationResponse:
    told = pb.FollowSimulationResponse()
    getattr(told, field).MergeFromString(content)
    getattr(told, field).SetInParent()
    return told
