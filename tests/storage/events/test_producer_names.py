"""A producer's name is free again whatever becomes of the call that opens it."""

import asyncio
import contextlib
import random
import time

import pytest

from storage.events.client import PulsarBroker
from storage.events.ports import OutMessage, ProducerNameTaken

pytestmark = pytest.mark.integration

MESSAGE = OutMessage("key", b"x", {})


async def cancelled_while_opening(opening: "asyncio.Future[object]", delay_s: float) -> bool:
    """Cancels after a moment; whether it was still under way."""
    task = asyncio.ensure_future(opening)
    await asyncio.sleep(delay_s)
    was_under_way = task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await (await task).close()  # type: ignore[attr-defined]
    return was_under_way


async def test_a_cancelled_open_leaves_no_producer_behind(broker: PulsarBroker) -> None:
    """The library goes on opening; the broker would keep the name while the connection lives."""
    rng, n_cancelled = random.Random(7), 0
    for i in range(20):
        name = f"cancelled-{i}"
        opening = broker.open_producer("alerts", name)
        n_cancelled += await cancelled_while_opening(opening, rng.uniform(0, 0.01))  # type: ignore[arg-type]
    assert n_cancelled
    for i in range(20):
        producer = await opened_within(broker, f"cancelled-{i}", 30.0)
        await producer.send(MESSAGE, 0)  # type: ignore[attr-defined]
        await producer.close()  # type: ignore[attr-defined]


async def opened_within(broker: PulsarBroker, name: str, timeout_s: float) -> object:
    give_up = time.monotonic() + timeout_s
    while True:
        try:
            return await broker.open_producer("alerts", name)
        except ProducerNameTaken:
            assert time.monotonic() < give_up, f"{name} is never free again"
            await asyncio.sleep(0.1)


async def test_a_name_in_use_is_said_to_be_taken(broker: PulsarBroker) -> None:
    holder = await broker.open_producer("alerts", "held")
    with pytest.raises(ProducerNameTaken):
        await broker.open_producer("alerts", "held")
    await holder.close()
    again = await broker.open_producer("alerts", "held")
    await again.close()
