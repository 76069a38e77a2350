"""Counts what was tried: the best of many settings is corrected for all that the service has seen.

A worker answers as far as it knows (`Ran`). In the transaction that ends the work the settings are
stored, and the answer is completed by what else was tried in the experiment, whoever tried it. Two
runs of an experiment at once end one after the other, so that the second knows of the first.
"""

from dataclasses import replace
from datetime import date

import asyncpg

from server.convert.trials import Known, completion, decoded
from storage.postgres import trials
from storage.postgres.jobs import StoredJob

METHODS = ("RunBacktest", "TuneParameters")
"""Those whose workers answer with what was tried."""


async def keep_tried(
    connection: asyncpg.Connection, tenant_id: str, author: str, content: bytes
) -> bytes:
    """Stores what was tried. The answer of the worker with what is known of it now."""
    tried, answer = decoded(content)
    key = (connection, tenant_id, tried.experiment)
    await trials.lock(*key)
    await trials.add(*key, tried.trials(), method=tried.method, author=author)
    known = Known(*await trials.totals(*key))
    if tried.locked is not None:
        span = tuple(map(date.fromisoformat, tried.locked))
        openings, seen = await trials.openings(*key, *span), await trials.within(*key, *span)
        known = replace(known, openings=openings, seen=seen)
        await trials.open_locked(*key, *span, author=author)
    # Fields of an encoded message that come again take the place of those before.
    return answer + completion(tried, known).SerializeToString()


async def keep_tried_of_job(
    connection: asyncpg.Connection, job: StoredJob, content: bytes
) -> bytes:
    """The same in the name of whoever started a job."""
    return await keep_tried(connection, job.tenant_id, job.author, content)
