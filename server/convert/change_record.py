"""Who changed what when, between storage and the contract."""

from datetime import datetime
from typing import Protocol

from positionsizing.v1 import types_pb2

from server.convert.names import timestamp


class Changed(Protocol):
    """One version of what people set; approver: the second person, "" where none was needed."""

    @property
    def version(self) -> int:
        """From 1."""

    @property
    def author(self) -> str:
        """Who set it."""

    @property
    def approver(self) -> str:
        """The second person."""

    @property
    def reason(self) -> str:
        """Why."""

    @property
    def create_time(self) -> datetime | None:
        """When it was stored."""


def change_record(stored: Changed) -> types_pb2.ChangeRecord:
    """Version, author, approver, reason and time of a change that was stored."""
    assert stored.create_time is not None
    return types_pb2.ChangeRecord(
        version=stored.version,
        author=stored.author,
        reason=stored.reason,
        create_time=timestamp(stored.create_time),
        approver=stored.approver,
    )
