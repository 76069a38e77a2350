"""WebhookService: URLs that events are posted to."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from positionsizing.v1 import webhook_service_pb2 as pb

from server.calls.errors import FieldViolation, invalid, invalid_fields, precondition
from server.calls.request_context import Call
from server.convert.names import (
    checked_id,
    id_violations,
    moment,
    page_size,
    page_start,
    page_token,
    position,
    text_violations,
    timestamp,
    uuid,
)
from server.convert.ranges import number_violations
from server.observability.alerts import INFO, alert
from server.secret_keys import SecretKeys, SecretKeysError
from server.webhooks import address, secrets, signature
from server.webhooks.address import Network
from storage.events.topics import OUTGOING
from storage.postgres import outbox, webhook_deliveries, webhooks
from storage.postgres.pool import Database
from storage.postgres.webhook_deliveries import Delivery
from storage.postgres.webhooks import Webhook

ATTEMPTS_DEFAULT = 16
OVERLAP_DEFAULT_HOURS = 24.0
EVENTS_MAX = 1000
TOPICS = frozenset(topic.name for topic in OUTGOING)


class WebhookService:
    """See `protos/positionsizing/v1/webhook_service.proto`."""

    def __init__(self, database: Database, networks: Sequence[Network], keys: SecretKeys) -> None:
        """networks: that may be posted to beside public addresses. keys: that encrypt secrets."""
        self._database = database
        self._keys = keys
        self._networks = networks

    async def create_webhook(
        self, call: Call, request: pb.CreateWebhookRequest
    ) -> pb.CreateWebhookResponse:
        """Registers a URL, and tells so as an event."""
        given, secret = request.webhook, signature.new_secret()
        found = list(number_violations(request))
        found += id_violations(given.webhook_id, "webhook.webhook_id")
        found += self._url_violations(given.url, "webhook.url")
        found += _topic_violations(given.topics, "webhook.topics")
        if not given.topics:
            found.append(FieldViolation("webhook.topics", "MISSING", "name one topic or more"))
        if found:
            raise invalid_fields(found)
        sealed = self._sealed(call.tenant_id, given.webhook_id, secret)
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            hook = await webhooks.create(
                connection,
                call.tenant_id,
                given.webhook_id,
                url=given.url,
                topics=tuple(given.topics),
                attempts_max=given.attempts_max or ATTEMPTS_DEFAULT,
                secret=sealed,
                author=call.author,
            )
            text = f"{call.author} has events posted to {hook.url}: {', '.join(hook.topics)}"
            event = alert(INFO, "WEBHOOK_CREATED", text, f"webhook:{hook.webhook_id}")
            await outbox.append(connection, call.tenant_id, "", [event])
        return pb.CreateWebhookResponse(webhook=_message(hook), secret=signature.shown(secret))

    async def update_webhook(
        self, call: Call, request: pb.UpdateWebhookRequest
    ) -> pb.UpdateWebhookResponse:
        """Changes what is given."""
        webhook_id = checked_id(request.webhook_id, "webhook_id")
        found = [*number_violations(request), *_topic_violations(request.topics, "topics")]
        if request.HasField("url"):
            found += self._url_violations(request.url, "url")
        if found:
            raise invalid_fields(found)
        has = request.HasField
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            hook = await webhooks.update(
                connection,
                call.tenant_id,
                webhook_id,
                url=request.url if has("url") else None,
                topics=tuple(request.topics) or None,
                attempts_max=request.attempts_max if has("attempts_max") else None,
                is_enabled=request.enabled if has("enabled") else None,
                disable_reason=f"by {call.author}",
                author=call.author,
            )
            if has("url"):
                text = f"{call.author} has the events of {webhook_id} posted to {hook.url} now"
                event = alert(INFO, "WEBHOOK_CHANGED", text, f"webhook:{webhook_id}")
                await outbox.append(connection, call.tenant_id, "", [event])
        return pb.UpdateWebhookResponse(webhook=_message(hook))

    async def rotate_webhook_secret(
        self, call: Call, request: pb.RotateWebhookSecretRequest
    ) -> pb.RotateWebhookSecretResponse:
        """A new secret; the one before signs as well for a while."""
        webhook_id = checked_id(request.webhook_id, "webhook_id")
        if found := list(number_violations(request)):
            raise invalid_fields(found)
        has = request.HasField("overlap_hours")
        overlap = timedelta(hours=request.overlap_hours if has else OVERLAP_DEFAULT_HOURS)
        secret = signature.new_secret()
        sealed = self._sealed(call.tenant_id, webhook_id, secret)
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            until = await webhooks.rotate(
                connection,
                call.tenant_id,
                webhook_id,
                secret=sealed,
                overlap=overlap,
                author=call.author,
            )
        return pb.RotateWebhookSecretResponse(
            secret=signature.shown(secret), overlap_until_time=timestamp(until)
        )

    async def delete_webhook(
        self, call: Call, request: pb.DeleteWebhookRequest
    ) -> pb.DeleteWebhookResponse:
        """Removes a webhook with its deliveries."""
        webhook_id = checked_id(request.webhook_id, "webhook_id")
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await webhooks.remove(connection, call.tenant_id, webhook_id, author=call.author)
        return pb.DeleteWebhookResponse()

    async def list_webhooks(
        self, call: Call, request: pb.ListWebhooksRequest
    ) -> pb.ListWebhooksResponse:
        """By id."""
        del request
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await webhooks.of_tenant(connection, call.tenant_id)
        return pb.ListWebhooksResponse(webhooks=map(_message, rows))

    async def list_webhook_deliveries(
        self, call: Call, request: pb.ListWebhookDeliveriesRequest
    ) -> pb.ListWebhookDeliveriesResponse:
        """The newest event first."""
        webhook_id = checked_id(request.webhook_id, "webhook_id")
        size = page_size(request.page_size)
        start = page_start(request, position)
        if request.state not in pb.DeliveryState.values():
            raise invalid("state", "UNKNOWN_VALUE", f"is {request.state}; it is no state")
        state = pb.DeliveryState.Name(request.state).removeprefix("DELIVERY_STATE_")
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await webhook_deliveries.deliveries(
                connection,
                call.tenant_id,
                webhook_id,
                state=state if request.state else None,
                before=None if start is None else start[0],
                limit=size + 1,
            )
        response = pb.ListWebhookDeliveriesResponse(deliveries=map(_delivery, rows[:size]))
        if len(rows) > size:
            response.next_page_token = page_token(request, rows[size - 1].position)
        return response

    async def redeliver_webhook_events(
        self, call: Call, request: pb.RedeliverWebhookEventsRequest
    ) -> pb.RedeliverWebhookEventsResponse:
        """Queues events again."""
        webhook_id = checked_id(request.webhook_id, "webhook_id")
        has_time = request.HasField("since_time")
        if bool(request.event_ids) == has_time:
            reason = "AMBIGUOUS" if has_time else "MISSING"
            raise invalid("event_ids", reason, "give either event_ids or since_time")
        if len(request.event_ids) > EVENTS_MAX:
            text = f"has {len(request.event_ids)} entries; at most {EVENTS_MAX} are accepted"
            raise invalid("event_ids", "TOO_MANY", text)
        ids = [uuid(text, f"event_ids[{i}]") for i, text in enumerate(request.event_ids)]
        since = moment(request.since_time, "since_time") if has_time else None
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            count = await webhook_deliveries.redeliver(
                connection, call.tenant_id, webhook_id, event_ids=ids, since=since
            )
        return pb.RedeliverWebhookEventsResponse(event_count=count)

    def _sealed(self, tenant_id: str, webhook_id: str, secret: bytes) -> bytes:
        try:
            return secrets.sealed(self._keys, tenant_id, webhook_id, secret)
        except SecretKeysError as error:
            raise precondition("SECRET_KEYS_MISSING", str(error)) from error

    def _url_violations(self, url: str, path: str) -> Iterator[FieldViolation]:
        yield from text_violations(url, path)
        if not url:
            yield FieldViolation(path, "MISSING", "must be given")
        elif wrong := address.wrong_url(url):
            yield FieldViolation(path, "BAD_FORMAT", wrong)
        elif address.is_refused(url, self._networks):
            text = "is no public address; the server's SIZING_WEBHOOK_NETWORKS may allow it"
            yield FieldViolation(path, "NOT_ALLOWED", text)


def _topic_violations(topics: Sequence[str], path: str) -> Iterator[FieldViolation]:
    for place, name in enumerate(topics):
        if name not in TOPICS:
            text = f"is {name[:40]!r}; topics are {', '.join(sorted(TOPICS))}"
            yield FieldViolation(f"{path}[{place}]", "UNKNOWN_VALUE", text)
        elif name in topics[:place]:
            yield FieldViolation(f"{path}[{place}]", "DUPLICATE", f"{name!r} is given twice")


def _message(hook: Webhook) -> pb.Webhook:
    message = pb.Webhook(
        webhook_id=hook.webhook_id,
        url=hook.url,
        topics=hook.topics,
        attempts_max=hook.attempts_max,
        enabled=hook.disable_time is None,
        disable_reason=hook.disable_reason,
        pending_count=hook.n_pending,
        author=hook.author,
        changed_by=hook.changed_by,
        create_time=timestamp(hook.create_time),
    )
    if hook.disable_time is not None:
        message.disable_time.CopyFrom(timestamp(hook.disable_time))
    return message


def _delivery(row: Delivery) -> pb.WebhookDelivery:
    message = pb.WebhookDelivery(
        event_id=str(row.event_id),
        event_type=row.type,
        topic=row.topic,
        portfolio_id=row.portfolio_id,
        portfolio_sequence=row.portfolio_sequence,
        state=pb.DeliveryState.Value(f"DELIVERY_STATE_{row.state}"),
        attempts=row.attempts,
        last_status=row.last_status,
        last_error=row.last_error,
        create_time=timestamp(row.create_time),
    )
    for name in ("attempt_time", "retry_time"):
        time = getattr(row, name)
        if time is not None:
            getattr(message, name).CopyFrom(timestamp(time))
    return message
