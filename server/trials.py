"""Counts what was tried: the best of many settings is corrected for all that the service has seen.

A worker answers as far as it knows (`Ran`). In the transaction that ends the work the settings are
stored, and the answer is completed by what else was tried in the experiment, whoever tried it. Two
runs of an experiment at once end one after the other, so that the second knows of the first.
"""

from datetime import date

import asyncpg
from google.protobuf.message import Message
from positionsizing.v1 import simulation_service_pb2 as pb

from compute.simulate.overfitting import deflated
from server.convert.trials import Tried, decoded, opening_message
from storage.postgres import trials
from storage.postgres.jobs import StoredJob

METHODS = ("RunBacktest", "TuneParameters")
"""Those whose workers answer with what was tried."""


async def keep_tried(
    connection: asyncpg.Connection, tenant_id: str, author: str, content: bytes
) -> bytes:
    """Stores what was tried. The answer of the worker with what is known of it now."""
    tried, answer = decoded(content)
    await trials.lock(connection, tenant_id, tried.experiment)
    # Fields of an encoded message that come again take the place of those before.
    return answer + (await _completed(connection, tenant_id, author, tried)).SerializeToString()


async def keep_tried_of_job(
    connection: asyncpg.Connection, job: StoredJob, content: bytes
) -> bytes:
    """The same in the name of whoever started a job."""
    return await keep_tried(connection, job.tenant_id, job.author, content)


async def _completed(
    connection: asyncpg.Connection, tenant_id: str, author: str, tried: Tried
) -> Message:
    """Stores what was tried, and tells the part of the answer that depends on what else was."""
    key, own = (connection, tenant_id, tried.experiment), tried.trials()
    await trials.add(*key, own, method=tried.method, author=author)
    counted, deviation = await trials.totals(*key)
    luck = pb.Overfitting(
        trials=len(own) + max(tried.trials_before, counted - len(own)),
        experiment=tried.experiment,
        trials_counted=counted,
    )
    if tried.best is not None:
        luck.deflated_sharpe = deflated(*tried.best, deviation or 0.0, luck.trials)
    if tried.locked is None:
        return pb.RunBacktestResponse(overfitting=luck)
    span = tuple(map(date.fromisoformat, tried.locked))
    before = await trials.openings(*key, *span)
    await trials.open_locked(*key, *span, author=author)
    return pb.TuneParametersResponse(
        overfitting=luck,
        locked_openings_before=len(before),
        locked_opened_last=opening_message(before[0]) if before else None,
        locked_trials_before=await trials.within(*key, *span),
    )
