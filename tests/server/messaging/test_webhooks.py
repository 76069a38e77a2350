"""Events posted to a real HTTP server: signed, in order, again after failures, and nowhere else."""

import asyncio
import ipaddress
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from google.protobuf.json_format import ParseDict
from positionsizing.v1 import events_pb2, portfolio_service_pb2
from positionsizing.v1 import webhook_service_pb2 as pb

from compute.shapes import KernelRegistry
from server.app import App
from server.webhooks import body
from server.webhooks.address import is_allowed
from server.webhooks.post import Poster, PostError, PostSettings
from storage import embedded
from tests.fixtures_postgres import create_database
from tests.server.auth.test_tls import Authority
from tests.server.support.receiver import CLOSE, HANG, Post, Receiver, is_signed
from tests.server.support.service_client import (
    Client,
    new_id,
    refusal,
    same,
    sizing_request,
    started,
)

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
SETTINGS: dict[str, Any] = {
    "webhook_networks": ("127.0.0.0/8",),
    "webhook_retry_s": 0.05,
    "webhook_timeout_s": 2.0,
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[App]:
    """A server without a broker that may post to this machine."""
    folder = tmp_path_factory.mktemp("webhooks")
    async with started(postgres_server, kernels, folder, **SETTINGS) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(app: App) -> AsyncIterator[Client]:
    async with Client.connected(app.port) as connected:
        yield connected


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver.started() as running:
        yield running


async def create(client: Client, url: str, *topics: str, **given: Any) -> tuple[str, str]:
    """A new webhook: its id and its secret."""
    hook = pb.Webhook(webhook_id=new_id("hook"), url=url, topics=topics, **given)
    answer = await client.webhooks.CreateWebhook(pb.CreateWebhookRequest(webhook=hook))
    assert answer.webhook.enabled
    return answer.webhook.webhook_id, answer.secret


async def hook_of(client: Client, webhook_id: str) -> pb.Webhook:
    listed = (await client.webhooks.ListWebhooks(pb.ListWebhooksRequest())).webhooks
    return next(hook for hook in listed if hook.webhook_id == webhook_id)


async def update(client: Client, webhook_id: str, **given: Any) -> pb.Webhook:
    request = pb.UpdateWebhookRequest(webhook_id=webhook_id, **given)
    return (await client.webhooks.UpdateWebhook(request)).webhook


async def deliveries(client: Client, webhook_id: str, **given: Any) -> list[pb.WebhookDelivery]:
    request = pb.ListWebhookDeliveriesRequest(webhook_id=webhook_id, **given)
    return list((await client.webhooks.ListWebhookDeliveries(request)).deliveries)


async def halt(client: Client, portfolio_id: str, state: int) -> None:
    request = portfolio_service_pb2.SetTradingStateRequest(
        scope=portfolio_service_pb2.Scope(portfolio_id=portfolio_id), reason="a test"
    )
    request.trading_state = state  # type: ignore[assignment]
    await client.portfolio.SetTradingState(request)


def documented() -> Callable[[Mapping[str, str], bytes, str], bool]:
    """The check of signatures that the page on webhooks shows."""
    page = Path(__file__).parents[3] / "docs" / "webhooks.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    check: Callable[[Mapping[str, str], bytes, str], bool] = names["is_genuine"]
    return check


def sequences(posts: list[Post], portfolio_id: str) -> list[int]:
    return [p.json["portfolio_sequence"] for p in posts if p.json["portfolio_id"] == portfolio_id]


async def test_decisions_arrive_signed_and_in_order_through_failures(
    client: Client, receiver: Receiver
) -> None:
    failures = iter([500, CLOSE, 302, 503])
    receiver.answer = lambda _, __: next(failures, 204)
    receiver.headers = (f"location: {receiver.url('/elsewhere')}",)
    books = [await client.ready() for _ in range(2)]
    webhook_id, secret = await create(client, receiver.url("/a?b=c"), "position-sized")
    decisions = {}
    for book in books * 3:
        decision = await client.size(sizing_request(book))
        decisions[decision.decision_id] = decision
    await receiver.until(lambda: len(receiver.accepted("/a?b=c")) >= 6)
    accepted = receiver.accepted("/a?b=c")
    assert len(accepted) == 6
    assert len({post.event_id for post in accepted}) == 6
    for book in books:
        numbers = sequences(accepted, book)
        assert numbers == sorted(numbers)
        assert len(numbers) == 3
    for post in receiver.posts:
        assert post.path == "/a?b=c", "a redirect is followed nowhere"
        assert post.headers["content-type"] == "application/json"
        for check in (is_signed, lambda p, key: documented()(p.headers, p.body, key)):
            assert check(post, secret)
            assert not check(post, "whsec_" + "A" * 43 + "=")
        told = post.json
        assert (told["type"], told["topic"]) == ("PositionSized", "position-sized")
        event = ParseDict(told["data"], events_pb2.PositionSized())
        assert event.portfolio_sequence == told["portfolio_sequence"]
        assert same(event.decision, decisions[event.decision.decision_id])
    failed = [post for post in receiver.posts if post.status != 204]
    assert len(failed) == 4, "each failure was tried again"
    assert {post.event_id for post in failed} <= {post.event_id for post in accepted}
    for _ in range(600):
        rows = await deliveries(client, webhook_id)
        if all(row.state == pb.DELIVERY_STATE_DELIVERED for row in rows):
            break
        await asyncio.sleep(0.1)
    assert [row.event_id for row in rows] == sorted((p.event_id for p in accepted), reverse=True)
    assert sum(row.attempts for row in rows) == len(receiver.posts)
    assert {row.last_status for row in rows} == {204}
    assert not any(row.last_error for row in rows)
    paged = await deliveries(client, webhook_id, page_size=4)
    assert [row.event_id for row in paged] == [row.event_id for row in rows[:4]]


async def test_what_fails_too_often_is_disabled_with_an_alert_and_goes_on_when_enabled(
    client: Client, receiver: Receiver
) -> None:
    webhook_id, _ = await create(
        client, receiver.url("/down"), "trading-state-changed", attempts_max=3
    )
    await create(client, receiver.url("/alerts"), "alerts")
    receiver.answer = lambda _, told: 200 if told["topic"] == "alerts" or is_up else 500
    is_up = False
    book = await client.put_portfolio()
    for state in (3, 1):
        await halt(client, book, state)

    def disabled() -> list[Post]:
        alerts = receiver.accepted("/alerts")
        return [post for post in alerts if post.json["data"]["reason"] == "WEBHOOK_DISABLED"]

    await receiver.until(lambda: bool(disabled()))
    assert disabled()[0].json["data"]["subject"] == f"webhook:{webhook_id}"
    tried = [post for post in receiver.posts if post.path == "/down"]
    assert len(tried) == 3
    assert len({post.event_id for post in tried}) == 1, "the second waits behind the first"
    hook = await hook_of(client, webhook_id)
    assert not hook.enabled
    assert hook.pending_count == 2
    assert "failed 3 times; last: answered 500" in hook.disable_reason
    await halt(client, book, 2)  # not queued: it is disabled
    assert (await hook_of(client, webhook_id)).pending_count == 2
    pending = await deliveries(client, webhook_id, state=pb.DELIVERY_STATE_PENDING)
    assert [row.attempts for row in pending] == [0, 3]
    is_up = True
    assert (await update(client, webhook_id, enabled=True)).enabled
    await receiver.until(lambda: len(receiver.accepted("/down")) == 2)
    numbers = sequences(receiver.accepted("/down"), book)
    assert numbers == sorted(numbers)


async def test_one_that_is_gone_is_asked_once(client: Client, receiver: Receiver) -> None:
    receiver.answer = lambda _, __: 410
    webhook_id, _ = await create(client, receiver.url(), "trading-state-changed")
    await halt(client, await client.put_portfolio(), 3)
    await receiver.until(lambda: bool(receiver.posts))
    for _ in range(600):
        hook = await hook_of(client, webhook_id)
        if not hook.enabled:
            break
        await asyncio.sleep(0.1)
    assert "answered 410" in hook.disable_reason
    assert len(receiver.posts) == 1


async def test_a_receiver_that_hangs_holds_up_nobody(client: Client, receiver: Receiver) -> None:
    receiver.answer = lambda _, told: 200 if told["portfolio_id"] == other else HANG
    webhook_id, _ = await create(client, receiver.url(), "trading-state-changed")
    book, other = await client.put_portfolio(), await client.put_portfolio()
    await halt(client, book, 3)
    await halt(client, other, 3)
    await receiver.until(lambda: bool(receiver.accepted("/hook")))
    for _ in range(600):
        rows = await deliveries(client, webhook_id, state=pb.DELIVERY_STATE_PENDING)
        if rows and rows[0].attempts:
            break
        await asyncio.sleep(0.1)
    assert [row.portfolio_id for row in rows] == [book]
    assert rows[0].last_error == "timed out after 2 s"
    assert rows[0].retry_time.ToDatetime() >= rows[0].attempt_time.ToDatetime()


async def test_secrets_change_with_an_overlap(client: Client, receiver: Receiver) -> None:
    webhook_id, first = await create(client, receiver.url(), "trading-state-changed")
    book = await client.put_portfolio()

    async def posted(n: int) -> Post:
        await halt(client, book, 3 if n % 2 else 1)
        await receiver.until(lambda: len(receiver.posts) == n)
        return receiver.posts[-1]

    async def rotated(hours: float) -> str:
        request = pb.RotateWebhookSecretRequest(webhook_id=webhook_id, overlap_hours=hours)
        answer: pb.RotateWebhookSecretResponse = await client.webhooks.RotateWebhookSecret(request)
        return answer.secret

    assert is_signed(await posted(1), first)
    second = await rotated(1.0)
    post = await posted(2)
    assert is_signed(post, first)
    assert is_signed(post, second)
    third = await rotated(0.0)
    post = await posted(3)
    assert [is_signed(post, secret) for secret in (first, second, third)] == [False, False, True]
    shown = str(await client.webhooks.ListWebhooks(pb.ListWebhooksRequest()))
    assert "whsec" not in shown


async def test_events_come_again_when_they_are_asked_for(
    client: Client, receiver: Receiver
) -> None:
    webhook_id, _ = await create(client, receiver.url(), "trading-state-changed")
    book, begin = await client.put_portfolio(), datetime.now(UTC)
    for state in (3, 1, 3):
        await halt(client, book, state)
    await receiver.until(lambda: len(receiver.posts) == 3)
    first = receiver.posts[0].event_id
    await _redeliver(client, webhook_id, event_ids=[first])
    await receiver.until(lambda: len(receiver.posts) == 4)
    assert receiver.posts[-1].event_id == first
    request = pb.RedeliverWebhookEventsRequest(webhook_id=webhook_id)
    request.since_time.FromDatetime(begin)
    for _ in range(600):  # a post that has arrived may not be noted yet
        if not await deliveries(client, webhook_id, state=pb.DELIVERY_STATE_PENDING):
            break
        await asyncio.sleep(0.1)
    assert (await client.webhooks.RedeliverWebhookEvents(request)).event_count == 3
    await receiver.until(lambda: len(receiver.posts) == 7)
    assert sequences(receiver.posts[4:], book) == sequences(receiver.posts[:3], book)
    found = await refusal(_redeliver(client, webhook_id, event_ids=[first[:-12] + "0" * 12]))
    assert found.reason == "WEBHOOK_EVENT_NOT_FOUND"


async def _redeliver(client: Client, webhook_id: str, **given: Any) -> int:
    request = pb.RedeliverWebhookEventsRequest(webhook_id=webhook_id, **given)
    answer: pb.RedeliverWebhookEventsResponse = await client.webhooks.RedeliverWebhookEvents(
        request
    )
    return answer.event_count


async def test_a_process_that_is_killed_is_followed_by_another(
    client: Client, app: App, receiver: Receiver
) -> None:
    await create(client, receiver.url(), "trading-state-changed")
    book = await client.put_portfolio()
    await halt(client, book, 3)
    await receiver.until(lambda: len(receiver.posts) == 1)
    children = [
        child
        for child in psutil.Process().children()
        if child.cmdline()[-2:] == ["-m", "server.webhooks"]
    ]
    assert children
    for child in children:
        child.kill()
    await halt(client, book, 1)
    # What the first had not noted yet comes again: at least once.
    await receiver.until(lambda: len({post.event_id for post in receiver.posts}) == 2)
    assert sequences(receiver.posts, book) == sorted(sequences(receiver.posts, book))


async def test_https_is_trusted_by_its_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("receiver")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with Receiver.started(tls) as receiver:
        url = receiver.url(scheme="https", host="localhost")
        trusting = Poster(PostSettings([LOOPBACK, ipaddress.ip_network("::1/128")], authority.file))
        assert await trusting.post(url, {"webhook-id": "1"}, b"{}") == 200
        with pytest.raises(PostError, match="certificate"):
            await Poster(PostSettings([LOOPBACK])).post(url, {}, b"{}")
    assert len(receiver.posts) == 1


async def test_nothing_is_posted_to_this_machine_unless_it_is_allowed(receiver: Receiver) -> None:
    for host in ("localhost", "127.0.0.1"):  # a name is judged by what it resolves to
        with pytest.raises(PostError, match="is no public address"):
            await Poster(PostSettings()).post(receiver.url(host=host), {}, b"{}")
    assert not receiver.posts
    assert await Poster(PostSettings([LOOPBACK])).post(receiver.url(), {}, b"{}") == 200


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b:1::808:808", False),
        ("192.88.99.1", False),
        ("3fff:fff::1", False),
        ("5f00::1", False),
        ("64:ff9b::808:808", True),
    ],
)
def test_which_addresses_are_public(address: str, is_public: bool) -> None:
    assert is_allowed(ipaddress.ip_address(address), []) is is_public


def test_a_body_that_is_too_large_goes_without_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    import json
    from uuid import uuid4

    from storage.postgres.webhook_deliveries import QueuedEvent, Target

    payload = events_pb2.Alert(reason="LONG", message="x" * 500).SerializeToString()
    event = QueuedEvent(
        uuid4(), "alerts", "", 1, "Alert", 1, payload, "", datetime(2026, 1, 5, tzinfo=UTC), 0
    )
    target = Target("acme", "hook", "https://example.com", 3, (b"secret",))
    whole = json.loads(body.body_of(target, event))
    assert whole["data"]["message"] == "x" * 500
    assert whole["timestamp"] == "2026-01-05T00:00:00Z"
    monkeypatch.setattr(body, "BYTES_MAX", 400)
    short = json.loads(body.body_of(target, event))
    assert short["data_omitted"] is True
    assert "data" not in short
    assert short["event_id"] == str(event.event_id)


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"webhook_id": ""}, {"webhook.webhook_id": "MISSING"}),
        ({"url": ""}, {"webhook.url": "MISSING"}),
        ({"url": "ftp://example.com/"}, {"webhook.url": "BAD_FORMAT"}),
        ({"url": "http://example.com/"}, {"webhook.url": "BAD_FORMAT"}),
        ({"url": "https://user:word@example.com/"}, {"webhook.url": "BAD_FORMAT"}),
        ({"url": "https://example.com/#part"}, {"webhook.url": "BAD_FORMAT"}),
        ({"url": "https://example.com/\r\nx: y"}, {"webhook.url": "BAD_FORMAT"}),
        ({"url": "https://example.com:99999/"}, {"webhook.url": "BAD_FORMAT"}),
        ({"url": "https://10.0.0.1/"}, {"webhook.url": "NOT_ALLOWED"}),
        ({"url": "https://[::1]/"}, {"webhook.url": "NOT_ALLOWED"}),
        ({"topics": []}, {"webhook.topics": "MISSING"}),
        ({"topics": ["alerts", "weather"]}, {"webhook.topics[1]": "UNKNOWN_VALUE"}),
        ({"topics": ["alerts", "alerts"]}, {"webhook.topics[1]": "DUPLICATE"}),
        ({"attempts_max": 0}, {"webhook.attempts_max": "OUT_OF_RANGE"}),
        ({"attempts_max": 51}, {"webhook.attempts_max": "OUT_OF_RANGE"}),
    ],
)
async def test_what_is_wrong_is_named(
    client: Client, given: dict[str, Any], fields: dict[str, str]
) -> None:
    good = {"webhook_id": new_id("bad"), "url": "https://example.com/", "topics": ["alerts"]}
    request = pb.CreateWebhookRequest(webhook=pb.Webhook(**{**good, **given}))
    assert (await refusal(client.webhooks.CreateWebhook(request))).fields == fields


async def test_what_is_not_there_or_there_already_is_refused(
    client: Client, receiver: Receiver
) -> None:
    webhook_id, _ = await create(client, receiver.url(), "limits-changed")
    hook = pb.Webhook(webhook_id=webhook_id, url=receiver.url(), topics=["alerts"])
    found = await refusal(client.webhooks.CreateWebhook(pb.CreateWebhookRequest(webhook=hook)))
    assert found.reason == "ALREADY_EXISTS"
    await update(client, webhook_id, enabled=False)
    again = pb.RedeliverWebhookEventsRequest(webhook_id=webhook_id)
    again.since_time.GetCurrentTime()
    found = await refusal(client.webhooks.RedeliverWebhookEvents(again))
    assert found.reason == "WEBHOOK_DISABLED"
    await client.webhooks.DeleteWebhook(pb.DeleteWebhookRequest(webhook_id=webhook_id))
    for call in (
        client.webhooks.DeleteWebhook(pb.DeleteWebhookRequest(webhook_id=webhook_id)),
        update(client, webhook_id, enabled=True),
        deliveries(client, webhook_id),
        client.webhooks.RotateWebhookSecret(pb.RotateWebhookSecretRequest(webhook_id=webhook_id)),
    ):
        assert (await refusal(call)).reason == "WEBHOOK_NOT_FOUND"


async def test_webhooks_wait_for_a_server_that_is_back(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    """What was committed before a server ended is posted after the next one starts."""
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    receiver.answer = lambda _, __: 200 if is_up else CLOSE
    is_up = False
    settings = {**SETTINGS, "dsn": dsn}
    async with (
        started(postgres_server, kernels, tmp_path / "a", **settings) as app,
        Client.connected(app.port) as client,
    ):
        webhook_id, secret = await create(client, receiver.url(), "position-sized", attempts_max=50)
        decision = await client.size(sizing_request(await client.ready()))
    is_up = True
    async with (
        started(postgres_server, kernels, tmp_path / "b", **settings) as app,
        Client.connected(app.port) as client,
    ):
        await update(client, webhook_id, enabled=True)
        await receiver.until(lambda: bool(receiver.accepted("/hook")))
    (post,) = receiver.accepted("/hook")
    assert is_signed(post, secret)
    assert post.json["data"]["decision"]["decisionId"] == decision.decision_id
