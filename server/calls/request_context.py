"""Who asks for something, and how long they wait for it."""

import time
from dataclasses import dataclass

import asyncpg
import grpc

from server.auth.identity import Identity
from server.calls.admission import Ticket
from server.calls.errors import Refusal
from storage.postgres import inbox


@dataclass(frozen=True)
class Call:
    """Who asks, until when, and for which trace."""

    identity: Identity
    deadline: float
    """On the monotonic clock."""
    trace_id: str = ""
    bytes_max: int = 2**31 - 1
    """The largest answer that the caller can receive."""
    event: tuple[str, str] | None = None
    """Topic and id of the event that asks; None for a call over gRPC."""
    caller: str = ""
    """Whose call it is in queues, where callers take turns."""
    ticket: Ticket | None = None
    """Its admission; None for an event."""

    @property
    def tenant_id(self) -> str:
        """Whose data the call is about."""
        return self.identity.tenant_id

    @property
    def author(self) -> str:
        """Who made a change, for histories."""
        return self.identity.subject

    @property
    def left_s(self) -> float:
        """Seconds that remain. Raises `Refusal` where none do."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE", "the time is over")
        return left


async def first_delivery(connection: asyncpg.Connection, call: Call) -> None:
    """Takes the call's event into the inbox, in the transaction that does its work.

    Raises `DuplicateEvent` where it is there already. Calls over gRPC pass.
    """
    if call.event is not None:
        await inbox.receive(connection, call.tenant_id, *call.event)
