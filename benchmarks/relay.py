"""Events a second from the outbox to a real broker by one relay, against sending them bare.

    .venv/bin/python -m benchmarks.relay [--events 8000] [--bytes 2000] [--rounds 3]

Bare is the same client with as many producers and messages in flight as the relay may have, and no
database: what remains of the ratio is reading, noting and deleting. Rounds alternate between both.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import uvloop

from storage import embedded
from storage.events import topics
from storage.events.broker.process import LocalBroker, Ports
from storage.events.client import BrokerConfig, PulsarBroker
from storage.events.outbox_session import OutboxSession
from storage.events.ports import OutMessage
from storage.events.relay import Relay, RelayOptions
from storage.postgres import outbox, portfolios, tenants
from storage.postgres.migrations import migrate
from storage.postgres.outbox import N_SHARDS, NewEvent
from storage.postgres.pool import Database

TENANT, TOPIC = "bench", "position-sized"
N_PORTFOLIOS = 64


async def write(database: Database, n_events: int, payload: bytes) -> None:
    """Commits events, evenly over the portfolios, 100 at a time."""
    for i in range(n_events // 100):
        events = [NewEvent(TOPIC, "PositionSized", lambda _: payload) for _ in range(100)]
        async with database.transaction(TENANT, deadline_s=30.0) as connection:
            await outbox.append(connection, TENANT, f"p{i % N_PORTFOLIOS}", events)


async def relayed(dsn: str, broker: PulsarBroker, n_events: int) -> float:
    """Events a second from the relay's first to its last, shards and producers taken before."""
    relay = Relay(OutboxSession(dsn), broker)
    task = asyncio.create_task(relay.run())
    started, first = time.monotonic(), 0
    while relay.stats.n_published < n_events:
        if not first:
            started, first = time.monotonic(), relay.stats.n_published
        await asyncio.sleep(0.001)
    took = time.monotonic() - started
    await relay.stop()
    await task
    return (n_events - first) / took


async def bare(broker: PulsarBroker, n_events: int, payload: bytes) -> float:
    """The same messages from as many producers, in waves as large as the relay's batches."""
    producers = [await broker.open_producer(TOPIC, f"bare-{i}") for i in range(N_SHARDS)]
    message = OutMessage("p", payload, {"event_id": str(uuid4()), "event_type": "PositionSized"})
    wave = RelayOptions().n_batch_max
    each = n_events // N_SHARDS

    async def send(place: int) -> None:
        sent = 0
        while sent < each:
            n = min(wave, each - sent)
            await asyncio.gather(*(producers[place].send(message) for _ in range(n)))
            sent += n

    started = time.monotonic()
    await asyncio.gather(*(send(place) for place in range(N_SHARDS)))
    took = time.monotonic() - started
    for producer in producers:
        await producer.close()
    return each * N_SHARDS / took


async def measure(dsn: str, config: BrokerConfig, n_events: int, size: int, rounds: int) -> None:
    """Prints a line a round and the medians."""
    await migrate(dsn)
    database, broker = await Database.open(dsn), PulsarBroker(config)
    async with database.transaction(TENANT, deadline_s=10.0) as connection:
        await tenants.ensure(connection, TENANT)
        for i in range(N_PORTFOLIOS):
            await portfolios.create(
                connection,
                TENANT,
                f"p{i}",
                display_name="",
                base_currency="USD",
                as_of_time=datetime.now(UTC),
            )
    payload = b"x" * size
    await bare(broker, 2000, payload)
    found = []
    for _ in range(rounds):
        await write(database, n_events, payload)
        found.append((await relayed(dsn, broker, n_events), await bare(broker, n_events, payload)))
        print(f"relay {found[-1][0]:8.0f} events/s    bare {found[-1][1]:8.0f} messages/s")
    mine, theirs = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"median {mine:7.0f} events/s of {size} bytes, {mine / theirs:.2f} of bare sending")
    await broker.close()
    await database.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=8000)
    parser.add_argument("--bytes", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = embedded.start(Path(folder) / "postgres")
        broker = LocalBroker(Path(folder) / "pulsar", Ports.free())
        try:
            broker.start()
            config = BrokerConfig(service_url=broker.service_url, admin_url=broker.admin_url)
            topics.ensure(config)
            work = measure(server.dsn, config, options.events, options.bytes, options.rounds)
            uvloop.run(work)
        finally:
            broker.stop()
            server.stop()


if __name__ == "__main__":
    main()
