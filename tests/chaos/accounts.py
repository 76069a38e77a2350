"""The callers, and the account of what became of each request: sent, answered, stored, received."""

import asyncio
import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pulsar
import pulsar.asyncio
from positionsizing.v1 import (
    events_pb2,
    market_service_pb2,
    market_service_pb2_grpc,
    portfolio_service_pb2,
    portfolio_service_pb2_grpc,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from storage.events.client import BrokerConfig
from storage.events.ports import InMessage
from storage.events.topics import OUTGOING
from tests.chaos.cluster import OPTIONS, Cluster

INSTRUMENTS = tuple(f"I{i}" for i in range(8))
PRICES = tuple(50.0 + 10.0 * i for i in range(8))
CASH = 1_000_000.0
WEIGHT_MAX = 0.2
RETRYABLE = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


@dataclass
class Failure:
    """A call that failed for its caller."""

    request_id: str
    code: grpc.StatusCode
    text: str
    seconds: float


@dataclass
class Account:
    """What the callers know."""

    portfolios: list[str]
    sent: dict[str, str] = field(default_factory=dict)
    """Request id to portfolio."""
    answers: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    failures: list[Failure] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Callers:
    """Calls to all replicas; a call that fails for a reason that may pass is sent again."""

    def __init__(
        self, addresses: Sequence[str], seed: int = 0, options: Sequence[tuple[str, Any]] = OPTIONS
    ) -> None:
        self._rng = random.Random(seed)
        self._channels = {a: grpc.aio.insecure_channel(a, options) for a in addresses}

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def set_up(self, address: str, portfolios: Iterable[str], prefix: str = "m") -> None:
        """A market, firm-wide limits and portfolios with cash."""
        channel = self._channels[address]
        market = market_service_pb2_grpc.MarketServiceStub(channel)
        put = market_service_pb2.PutMarketSnapshotRequest()
        put.snapshot.snapshot_id = f"{prefix}-{uuid4()}"
        put.snapshot.as_of_time.GetCurrentTime()
        put.snapshot.instrument_ids.extend(INSTRUMENTS)
        put.snapshot.price.extend(PRICES)
        put.snapshot.volatility.extend([0.3] * len(INSTRUMENTS))
        await market.PutMarketSnapshot(put, timeout=30)
        portfolio = portfolio_service_pb2_grpc.PortfolioServiceStub(channel)
        limits = portfolio_service_pb2.SetLimitsRequest(reason="chaos")
        limits.limits.weight_max = WEIGHT_MAX
        limits.limits.leverage_max = 1.0
        await portfolio.SetLimits(limits, timeout=30)
        for name in portfolios:
            create = portfolio_service_pb2.CreatePortfolioRequest()
            create.portfolio.portfolio_id = name
            create.portfolio.base_currency = "USD"
            create.portfolio.cash = CASH
            await portfolio.CreatePortfolio(create, timeout=30)

    def request(self, portfolio: str, n_lines: int = 4) -> sizing_service_pb2.SizePositionsRequest:
        """Signals of random strength on some of the instruments."""
        made = sizing_service_pb2.SizePositionsRequest(
            request_id=str(uuid4()), portfolio_id=portfolio
        )
        signals = made.signals
        signals.instrument_ids.extend(self._rng.sample(INSTRUMENTS, n_lines))
        signals.side.extend([types_pb2.SIDE_LONG] * n_lines)
        for _ in range(n_lines):
            signals.win_probability.append(self._rng.uniform(0.4, 0.9))
            signals.payoff.append(1.0)
            signals.loss_fraction.append(1.0)
        return made

    async def call(
        self,
        account: Account,
        request: sizing_service_pb2.SizePositionsRequest,
        address: str,
        timeout_s: float = 5.0,
    ) -> bool:
        """One attempt; whether it was answered."""
        stub = self._channels[address].unary_unary(
            "/positionsizing.v1.SizingService/SizePositions",
            request_serializer=sizing_service_pb2.SizePositionsRequest.SerializeToString,
        )
        account.sent[request.request_id] = request.portfolio_id
        started = time.monotonic()
        try:
            answer = await stub(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            took = time.monotonic() - started
            account.failures.append(
                Failure(request.request_id, error.code(), error.details() or "", took)
            )
            return False
        account.seconds.append(time.monotonic() - started)
        account.answers[request.request_id].append(answer)
        return True

    async def until_answered(
        self,
        account: Account,
        request: sizing_service_pb2.SizePositionsRequest,
        addresses: Sequence[str],
        patience_s: float = 120.0,
    ) -> None:
        """Attempts at one address after the other, with the same request id."""
        give_up = time.monotonic() + patience_s
        for address in itertools.cycle(addresses):
            if await self.call(account, request, address):
                return
            failure = account.failures[-1]
            assert failure.code in RETRYABLE, failure
            assert time.monotonic() < give_up, f"never answered: {failure}"
            await asyncio.sleep(self._rng.uniform(0.01, 0.1))


def decision_of(answer: bytes) -> sizing_pb2.SizingDecision:
    return sizing_service_pb2.SizePositionsResponse.FromString(answer).decision


@dataclass
class Counts:
    """One line of the table. The last three have to be 0."""

    name: str
    rounds: int
    sent: int
    acknowledged: int
    stored: int
    published: int
    received: int
    on_wire_twice: int
    lost: int
    phantom: int
    duplicate: int

    def __add__(self, other: "Counts") -> "Counts":
        """Another round of the same experiment."""
        mine, theirs = self.numbers, other.numbers
        return Counts(self.name, *(a + b for a, b in zip(mine, theirs, strict=True)))

    @property
    def numbers(self) -> list[int]:
        return list(self.__dict__.values())[1:]


COLUMNS = (
    *("rounds", "sent", "acked", "stored", "published", "received"),
    *("wire x2", "lost", "phantom", "duplicate"),
)


async def settle(name: str, cluster: Cluster, account: Account) -> Counts:
    """Wait until the outbox is empty, then compare callers, database and an idempotent consumer.

    Rounds of one name are added up in the table.

    lost: answered and not stored, answered other than stored, or stored and not received;
    phantom: stored or received and never sent; duplicate: stored or received more than once by
    request. The consumer forgets nothing and takes each event id once.
    """
    await until_drained(cluster)
    connection = await asyncpg.connect(cluster.dsn)
    rows = await connection.fetch(
        """SELECT d.request_id::text, d.decision_id::text, r.response FROM decision AS d
        JOIN request AS r USING (tenant_id, request_id) WHERE d.portfolio_id = ANY($1::text[])""",
        account.portfolios,
    )
    await connection.close()
    messages = await read_topics(cluster.config, account.portfolios)
    check_order(messages)
    events = {message.event_id: message for message in messages}
    received = Counter(
        events_pb2.PositionSized.FromString(message.payload).decision.request_id
        for message in events.values()
        if message.event_type == "PositionSized"
    )
    stored = Counter(row["request_id"] for row in rows)
    answer = {row["request_id"]: row["response"] for row in rows}
    told = {id: set(answers) for id, answers in account.answers.items() if answers}
    lost = [id for id, answers in told.items() if answers != {answer.get(id)}]
    lost += [id for id in stored if id not in received]
    phantom = (stored.keys() | received.keys()) - account.sent.keys()
    twice = sum((stored - Counter(stored.keys())).values())
    twice += sum((received - Counter(received.keys())).values())
    return Counts(
        name,
        rounds=1,
        sent=len(account.sent),
        acknowledged=len(told),
        stored=len(stored),
        published=len(messages),
        received=sum(received.values()),
        on_wire_twice=len(messages) - len(events),
        lost=len(lost),
        phantom=len(phantom),
        duplicate=twice,
    )


async def until_drained(cluster: Cluster, timeout_s: float = 300.0) -> float:
    """Wait until no event waits; the seconds it took."""
    started = time.monotonic()
    connection = await asyncpg.connect(cluster.dsn)
    try:
        while await connection.fetchval("SELECT count(*) FROM outbox"):
            assert time.monotonic() < started + timeout_s, "the outbox does not drain"
            await asyncio.sleep(0.1)
    finally:
        await connection.close()
    return time.monotonic() - started


async def read_topics(config: BrokerConfig, portfolios: Sequence[str]) -> list[InMessage]:
    """All outgoing messages of some portfolios, topic by topic in their order."""
    client = pulsar.asyncio.Client(
        config.service_url, logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, "/dev/null")
    )
    wanted, found = set(portfolios), []
    for topic in OUTGOING:
        reader = await client.create_reader(config.topic(topic.name), pulsar.MessageId.earliest)
        while await reader.has_message_available():
            message = await reader.read_next()
            if message.partition_key() in wanted:
                found.append(
                    InMessage(
                        topic=topic.name,
                        key=message.partition_key(),
                        payload=message.data(),
                        properties=message.properties(),
                        message_id=str(message.message_id()),
                    )
                )
        await reader.close()
    await client.close()
    return found


def check_order(messages: Sequence[InMessage]) -> None:
    """Rising numbers by topic and portfolio; over all topics, from 1 without a gap."""
    newest: dict[tuple[str, str], int] = {}
    numbers: dict[str, set[int]] = defaultdict(set)
    seen: set[str] = set()
    for message in messages:
        number, place = int(message.properties["portfolio_sequence"]), (message.topic, message.key)
        if message.event_id not in seen:
            assert number > newest.get(place, 0), f"out of order: {place} at {number}"
            newest[place] = number
        seen.add(message.event_id)
        numbers[message.key].add(number)
    for portfolio, found in numbers.items():
        assert found == set(range(1, len(found) + 1)), f"a gap in the events of {portfolio}"
