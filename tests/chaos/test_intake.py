"""R1 on the way in: a replica killed with messages in hand, which then come again elsewhere."""

import asyncio
import random
import time
from collections import defaultdict
from uuid import uuid4

import asyncpg
import pytest
from google.protobuf.message import Message
from positionsizing.v1 import events_pb2

from storage.crash import INTAKE_POINTS
from storage.events.client import PulsarBroker
from storage.events.ports import InMessage, OutMessage, Producer
from tests.chaos.accounts import Account, Callers, Counts, read_topics, settle, until_drained
from tests.chaos.cluster import Cluster
from tests.chaos.report import Figure

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

N_PORTFOLIOS = 24
"""The broker deals keys out by chance: one of two replicas must next to never get none."""
TENANT = "local"


class Senders:
    """Requests and limits for each portfolio by topic; what is sent is now and then sent twice."""

    def __init__(self, callers: Callers, account: Account, rng: random.Random) -> None:
        self._callers = callers
        self._account = account
        self._rng = rng
        self.requests: dict[str, list[str]] = defaultdict(list)
        self.limits: dict[str, list[str]] = defaultdict(list)

    async def send_all(self, signals: Producer, limits: Producer) -> None:
        """One more of each for every portfolio."""
        for portfolio in self._account.portfolios:
            event_id = str(uuid4())
            asked = events_pb2.SignalsSubmitted(request=self._callers.request(portfolio))
            asked.request.request_id = event_id
            self.requests[portfolio].append(event_id)
            self._account.sent[event_id] = portfolio
            await self._send(signals, portfolio, event_id, asked)
            event_id = str(uuid4())
            changed = events_pb2.LimitsUpdated()
            changed.request.scope.portfolio_id = portfolio
            changed.request.limits.weight_max = self._rng.uniform(0.1, 0.2)
            changed.request.reason = event_id
            self.limits[portfolio].append(event_id)
            await self._send(limits, portfolio, event_id, changed)

    async def _send(self, producer: Producer, key: str, event_id: str, event: Message) -> None:
        properties = {
            "event_id": event_id,
            "event_type": event.DESCRIPTOR.name,
            "tenant_id": TENANT,
        }
        for _ in range(1 + (self._rng.random() < 0.2)):
            await producer.send(OutMessage(key, event.SerializeToString(), properties))


@pytest.mark.parametrize("point", INTAKE_POINTS)
async def test_killed_with_messages_in_hand(
    point: str, running_cluster: Cluster, seeds: range, record: list[Counts], figure: Figure
) -> None:
    """Each event is handled once, each portfolio's in the order they were sent."""
    cluster = running_cluster
    cluster.heal(n_replicas=1)
    survivor, *others, victim = cluster.replicas
    for replica in others:
        await asyncio.to_thread(replica.kill)
    broker = PulsarBroker(cluster.config)
    for seed in seeds:
        rng = random.Random(f"{point} {seed}")
        portfolios = [f"{point}-{seed}-{i}" for i in range(N_PORTFOLIOS)]
        account = Account(portfolios)
        await asyncio.to_thread(victim.kill)
        callers = Callers([survivor.address], seed)
        await callers.set_up(survivor.address, portfolios)
        await until_drained(cluster)
        await asyncio.to_thread(victim.start, f"{point}:{rng.randint(1, 8)}")
        senders = Senders(callers, account, rng)
        signals = await broker.open_producer("signals")
        limits = await broker.open_producer("limits")
        give_up = time.monotonic() + 120
        while victim.is_running or len(senders.requests[portfolios[0]]) < 3:
            assert time.monotonic() < give_up, f"was given no message: {victim.log()[-5000:]}"
            await senders.send_all(signals, limits)
            await asyncio.sleep(0.1)
        assert victim.reap() == -9, f"ended by itself: {victim.log()[-2000:]}"
        n_missing = await _until_handled(cluster, senders)
        counts = await settle(f"killed at {point}", cluster, account)
        counts.lost += n_missing
        counts.duplicate += _check(await read_topics(cluster.config, portfolios), senders)
        record.append(counts)
        await callers.close()
    await broker.close()
    bad = sum(counts.lost + counts.phantom + counts.duplicate for counts in record)
    figure(
        "R1",
        f"kill -9 at {point}, {len(record)} seeds: {sum(c.sent for c in record)} requests and as "
        f"many limits by topic, {bad} lost, phantom or duplicate; order per portfolio kept",
    )


async def _until_handled(cluster: Cluster, senders: Senders, timeout_s: float = 600.0) -> int:
    """Wait until every event has done its work; how many have not when the time is over."""
    requests = [id for ids in senders.requests.values() for id in ids]
    limits = [id for ids in senders.limits.values() for id in ids]
    connection = await asyncpg.connect(cluster.dsn)
    n_missing = len(requests) + len(limits)
    give_up = asyncio.get_running_loop().time() + timeout_s
    while n_missing and asyncio.get_running_loop().time() < give_up:
        await asyncio.sleep(0.2)
        n_done = await connection.fetchval(
            """SELECT (SELECT count(*) FROM decision WHERE request_id = ANY($1::uuid[]))
                + (SELECT count(DISTINCT reason) FROM limit_set WHERE reason = ANY($2::text[]))""",
            requests,
            limits,
        )
        n_missing = len(requests) + len(limits) - n_done
    await connection.close()
    return max(0, n_missing)


def _check(messages: list[InMessage], senders: Senders) -> int:
    """That each portfolio's events were handled in the order they were sent; how many twice."""
    sized: dict[str, list[str]] = defaultdict(list)
    changed: dict[str, list[str]] = defaultdict(list)
    for message in {message.event_id: message for message in messages}.values():
        if message.event_type == "PositionSized":
            decision = events_pb2.PositionSized.FromString(message.payload).decision
            sized[message.key].append(decision.request_id)
        elif message.event_type == "LimitsChanged":
            event = events_pb2.LimitsChanged.FromString(message.payload)
            changed[message.key].append(event.change.reason)
    n_twice = 0
    for done, sent in ((sized, senders.requests), (changed, senders.limits)):
        for portfolio, ids in done.items():
            once = list(dict.fromkeys(ids))
            n_twice += len(ids) - len(once)
            assert once == [id for id in sent[portfolio] if id in set(once)], "out of order"
    return n_twice
