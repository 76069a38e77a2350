"""The ways storage can fail, by what the caller should do about it.

    StorageError
    ├── RequestError               change the request
    │   ├── NotFound               the thing named isn't there
    │   ├── AlreadyExists          the thing named is there already
    │   ├── RequestIdReused        the same request id came with other content
    │   ├── Archived               it was there, and is in an archive alone
    │   ├── FailedPrecondition     the thing is there, in a state that forbids it
    │   └── InvalidContent         the database can't hold a value as it came
    ├── VersionConflict            read afresh, compute again, write again
    ├── DuplicateEvent             nothing: the event that asks was taken in before
    ├── Unavailable                wait, then send the same request id again
    │   ├── Contended              the same, and soon: another write was in the way
    │   └── DeadlineExceeded       the same, and the time ran out while waiting
    └── SchemaMismatch             an operator has to run another release

An `Unavailable` write may or may not have been committed: sending it again with the same request id
finds out, because a committed request returns its stored answer.
"""

import asyncio
from datetime import datetime

__all__ = [
    "AlreadyExists",
    "Archived",
    "Contended",
    "DeadlineExceeded",
    "DuplicateEvent",
    "FailedPrecondition",
    "InvalidContent",
    "NotFound",
    "RequestError",
    "RequestIdReused",
    "SchemaMismatch",
    "StorageError",
    "Unavailable",
    "VersionConflict",
    "is_foreign_cancellation",
]


class StorageError(Exception):
    """Root of the tree. `reason` is stable and machine readable, `retryable` as it stands."""

    reason = "STORAGE"
    retryable = False


class RequestError(StorageError):
    """The request as it stands can never succeed."""

    reason = "REQUEST"


class NotFound(RequestError):
    """`kind` (such as "portfolio") named `id` does not exist in this tenant."""

    reason = "NOT_FOUND"

    def __init__(self, kind: str, id: str, text: str = "") -> None:
        """text: where there is more to say than that it doesn't exist."""
        super().__init__(text or f"{kind} {id!r} does not exist")
        self.kind = kind
        self.id = id


class AlreadyExists(RequestError):
    """`kind` named `id` exists already, with what it holds unchanged by this call."""

    reason = "ALREADY_EXISTS"

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"{kind} {id!r} exists already")
        self.kind = kind
        self.id = id


class RequestIdReused(RequestError):
    """The request id was used before for a request of other content; nothing was changed."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request id {request_id} was used before for another request")
        self.request_id = request_id


class FailedPrecondition(RequestError):
    """`kind` named `id` is in a state in which the operation has no meaning; `why` says which."""

    reason = "FAILED_PRECONDITION"

    def __init__(self, kind: str, id: str, why: str, reason: str = reason) -> None:
        super().__init__(f"{kind} {id!r}: {why}")
        self.kind = kind
        self.id = id
        self.why = why
        self.reason = reason


class Archived(RequestError):
    """`kind` named `id` was moved into the archive of that name; here is no more than its digest.

    create_time: of the thing; None where that is not known.
    """

    reason = "ARCHIVED"

    def __init__(
        self, kind: str, id: str, archive: str, create_time: datetime | None = None
    ) -> None:
        day = "" if create_time is None else f", among {create_time:%Y-%m-%d}"
        super().__init__(f"{kind} {id!r} is in the archive {archive!r}{day}, and no longer here")
        self.kind = kind
        self.id = id
        self.archive = archive
        self.day = "" if create_time is None else f"{create_time:%Y-%m-%d}"


class InvalidContent(RequestError):
    """A value out of the range of its column, or against a rule of its table."""

    reason = "INVALID_CONTENT"


class VersionConflict(StorageError):
    """`kind` named `id` is at version `actual`, the caller computed from `expected`."""

    reason = "VERSION_CONFLICT"
    retryable = True

    def __init__(self, kind: str, id: str, expected: int, actual: int) -> None:
        super().__init__(f"{kind} {id!r} is at version {actual}, expected version {expected}")
        self.kind = kind
        self.id = id
        self.expected = expected
        self.actual = actual


class DuplicateEvent(StorageError):
    """The event that asks has been taken in before; its work is done, nothing was changed."""

    reason = "DUPLICATE_EVENT"

    def __init__(self, topic: str, event_id: str) -> None:
        super().__init__(f"event {event_id} of {topic} was taken in before")


class Unavailable(StorageError):
    """The database can't be reached, is shutting down, or has no capacity to spare now."""

    reason = "STORAGE_UNAVAILABLE"
    retryable = True


class Contended(Unavailable):
    """Another transaction held a lock for too long, or won a deadlock; nothing was changed."""

    reason = "STORAGE_CONTENDED"


class DeadlineExceeded(Unavailable):
    """The database did not answer within the time the caller had left."""

    reason = "STORAGE_DEADLINE_EXCEEDED"


class SchemaMismatch(StorageError):
    """The database's schema is newer than this release knows, or has not been created yet."""

    reason = "SCHEMA_MISMATCH"


def is_foreign_cancellation(error: BaseException) -> bool:
    """Whether a `CancelledError` came from a future that was cancelled below, not to this task."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0
