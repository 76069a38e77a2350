"""The body of a post: an event as JSON, with what travels as properties over Pulsar beside it."""

import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from positionsizing.v1 import events_pb2

from storage.postgres.webhook_deliveries import QueuedEvent, Target

BYTES_MAX = 1 << 20
"""A larger body goes without its data."""


def body_of(target: Target, event: QueuedEvent) -> bytes:
    """The JSON; `data` is the event's message in protobuf's JSON form.

    Data that would make it larger than `BYTES_MAX` are left out, and `data_omitted` says so.
    """
    told: dict[str, Any] = {
        "type": event.type,
        "timestamp": event.create_time.isoformat().replace("+00:00", "Z"),
        "event_id": str(event.event_id),
        "topic": event.topic,
        "tenant_id": target.tenant_id,
        "portfolio_id": event.portfolio_id,
        "portfolio_sequence": event.portfolio_sequence,
        "schema_version": event.schema_version,
        "trace_id": event.trace_id,
    }
    if len(event.payload) <= BYTES_MAX:
        message = getattr(events_pb2, event.type).FromString(event.payload)
        body = _encoded({**told, "data": MessageToDict(message)})
        if len(body) <= BYTES_MAX:
            return body
    return _encoded({**told, "data_omitted": True})


def _encoded(told: dict[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
