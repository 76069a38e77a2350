"""The outbox and the inbox of a simulated database."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from storage.errors import Unavailable
from storage.postgres.outbox import N_SHARDS, OutboxEvent
from tests.storage.events.simulated_time import Chance

T = TypeVar("T")


def event(position: int, portfolio: str, sequence: int, topic: str, n: int) -> OutboxEvent:
    return OutboxEvent(
        position=position,
        event_id=UUID(int=n),
        tenant_id="acme",
        topic=topic,
        portfolio_id=portfolio,
        portfolio_sequence=sequence,
        type="PositionSized",
        schema_version=1,
        payload=b"x",
        trace_id="",
        create_time=datetime(2026, 1, 1, tzinfo=UTC),
    )


@dataclass
class Database:
    """Committed state: the outbox, the relays' notes and locks, the inbox and what it did."""

    chance: Chance
    outbox: dict[int, OutboxEvent] = field(default_factory=dict)
    committed: dict[UUID, OutboxEvent] = field(default_factory=dict)
    batches: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    owner: dict[int, object] = field(default_factory=dict)
    members: set[object] = field(default_factory=set)
    inbox: set[str] = field(default_factory=set)
    effects: list[tuple[str, str]] = field(default_factory=list)
    n_position: int = 0
    undo: list[Callable[[], None]] = field(default_factory=list)

    def commit(self, events: Sequence[OutboxEvent]) -> None:
        """A synchronous commit: durable, and with it everything before it."""
        self.undo.clear()
        for event in events:
            self.outbox[event.position] = event
            self.committed[event.event_id] = event

    def end_session(self, session: object) -> None:
        self.members.discard(session)
        self.owner = {shard: held for shard, held in self.owner.items() if held is not session}

    def crash(self) -> None:
        """All sessions end; of the asynchronous commits the last few are forgotten."""
        for _ in range(self.chance.rng.randint(0, len(self.undo))):
            self.undo.pop()()
        self.undo.clear()
        self.owner.clear()
        self.members.clear()


def shard_of(event: OutboxEvent) -> int:
    return sum(event.portfolio_id.encode()) % N_SHARDS


class SimulatedOutbox:
    """The `Outbox` of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._session: object | None = None
        self.is_dead = False

    async def open(self) -> None:
        await self.close()

        def begin() -> None:
            self._session = object()
            self._database.members.add(self._session)

        if self.is_dead:
            raise Unavailable("this process is dead")
        await self._database.chance.call(begin)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None and not self.is_dead:
            self._database.end_session(session)

    def lose(self) -> object | None:
        """The process dies; the server notices later. Returns the session it will end then."""
        self.is_dead = True
        return self._session

    async def n_relays(self) -> int:
        return await self._call(lambda: len(self._database.members))

    async def claim_shard(self, shard: int) -> bool:
        def claim() -> bool:
            assert self._session is not None
            held = self._database.owner.setdefault(shard, self._session)
            return held is self._session

        return await self._call(claim)

    async def release_shard(self, shard: int) -> None:
        await self._call(lambda: self._database.owner.pop(shard, None))

    async def waiting(self, shards: Collection[int]) -> list[int]:
        def find() -> list[int]:
            full = {shard_of(event) for event in self._database.outbox.values()}
            return [shard for shard in shards if shard in full]

        return await self._call(find)

    async def oldest(
        self, shard: int, limit: int, except_topics: Collection[str] = ()
    ) -> list[OutboxEvent]:
        def head() -> list[OutboxEvent]:
            mine = [e for e in self._database.outbox.values() if shard_of(e) == shard]
            rows = [e for e in mine if e.topic not in except_topics]
            return sorted(rows, key=lambda event: event.position)[:limit]

        return await self._call(head)

    async def load_batch(self, shard: int) -> list[tuple[OutboxEvent, int]]:
        def load() -> list[tuple[OutboxEvent, int]]:
            outbox = self._database.outbox
            noted = self._database.batches.get(shard, [])
            return [(outbox[position], id) for position, id in noted if position in outbox]

        return await self._call(load)

    async def name_epoch(self, shard: int) -> int:
        return await self._call(lambda: self._database.epochs.get(shard, 0))

    async def next_name(self, shard: int) -> int:
        def give_up() -> int:
            self._database.undo.clear()  # a synchronous commit
            self._database.batches[shard] = []
            self._database.epochs[shard] = self._database.epochs.get(shard, 0) + 1
            return self._database.epochs[shard]

        return await self._call(give_up)

    async def save_batch(self, shard: int, batch: Sequence[tuple[OutboxEvent, int]]) -> None:
        def save() -> None:
            before = self._database.batches.get(shard, [])
            self._database.batches[shard] = [(event.position, id) for event, id in batch]
            self._database.undo.append(lambda: self._database.batches.update({shard: before}))

        await self._call(save)

    async def delete(self, events: Sequence[OutboxEvent]) -> None:
        def remove() -> None:
            assert self._session is not None
            gone = {e.position: e for e in events if e.position in self._database.outbox}
            for position, event in gone.items():
                # The lock is what makes deleting right: only the shard's relay may.
                assert self._database.owner.get(shard_of(event)) is self._session
                del self._database.outbox[position]
            self._database.undo.append(lambda: self._database.outbox.update(gone))

        await self._call(remove)

    async def _call(self, effect: Callable[[], T]) -> T:
        session = self._session

        def checked() -> T:
            if self.is_dead or session is None or session not in self._database.members:
                raise Unavailable("no session")
            return effect()

        try:
            return await self._database.chance.call(checked)
        except Unavailable:
            await self.close()
            raise
