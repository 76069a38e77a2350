"""The one rule for sequence ids: the broker may drop a repetition, and nothing else."""

import pytest

from storage.events.ports import Broker, OutMessage, Producer, Sharing, Subscription
from storage.events.shard import Numbered, ShardPublisher
from tests.storage.events.simulated_database import event


class Opened:
    """A producer whose name has published up to a sequence id, and a broker that has no other."""

    def __init__(self, last_sequence_id: int) -> None:
        self.last_sequence_id = last_sequence_id

    async def open_producer(self, topic: str, name: str | None = None) -> Producer:
        return self

    async def subscribe(self, topic: str, subscription: str, sharing: Sharing) -> Subscription:
        raise NotImplementedError

    async def send(self, message: OutMessage, sequence_id: int | None = None) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("stored", "noted", "expected"),
    [
        (-1, [None, None], [0, 1]),  # never sent: above what the broker has
        (7, [None, None], [8, 9]),
        (7, [6, 7, 8], [6, 7, 8]),  # sent by a predecessor, who died: 6 and 7 will be dropped
        (7, [6, 7], [6, 7]),
        (9, [6, 7], [10, 11]),  # something else came after them: 8 and 9 may be other events
        (7, [6, None, 8], [8, 9, 10]),  # one has lost its id
        (7, [8, 6], [8, 9]),  # they don't rise
    ],
)
async def test_ids_are_kept_only_where_there_is_no_doubt(
    stored: int, noted: list[int | None], expected: list[int]
) -> None:
    broker: Broker = Opened(stored)
    batch = [Numbered(event(n, "p", n + 1, "position-sized", n), id) for n, id in enumerate(noted)]
    numbered, errors = await ShardPublisher(broker, "relay-0").number(batch)
    assert not errors
    assert [row.sequence_id for row in numbered] == expected
    assert [row.event for row in numbered] == [row.event for row in batch]
