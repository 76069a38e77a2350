"""Commands on webhooks: URLs that events are posted to."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    connect,
    console,
    print_json,
    say,
)
from server.cli.market import TIME, parse_time

if TYPE_CHECKING:
    from positionsizing.v1 import webhook_service_pb2 as pb

webhooks = typer.Typer(no_args_is_help=True, help="URLs that events are posted to.")
Name = Annotated[str, typer.Argument(help="Which webhook.")]
_SHOWN = "shown once: the receiver checks signatures with it"


@webhooks.command()
def create(
    name: Name,
    url: Annotated[str, typer.Argument(help="Where to; https, or http on loopback.")],
    topic: Annotated[list[str], typer.Option(help="Kind of events, such as position-sized.")],
    attempts_max: Annotated[
        int | None, typer.Option(help="An event that fails so often disables it. Default: 16.")
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Registers a URL and shows the secret of its signatures once."""
    from positionsizing.v1 import webhook_service_pb2 as pb

    hook = pb.Webhook(webhook_id=name, url=url, topics=topic, attempts_max=attempts_max)
    with connect(address) as client:
        answer = client.webhooks.CreateWebhook(pb.CreateWebhookRequest(webhook=hook))
    if as_json:
        print_json(answer)
        return
    say(answer.secret)
    typer.echo(_SHOWN, err=True)


@webhooks.command("list")
def list_(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Lists webhooks."""
    from positionsizing.v1 import webhook_service_pb2 as pb

    from server.cli.render import table

    with connect(address) as client:
        answer = client.webhooks.ListWebhooks(pb.ListWebhooksRequest())
    if as_json:
        print_json(answer)
        return
    left = ("webhook", "url", "topics", "state")
    out = table("Webhooks", *left, "waiting", left=left)
    for hook in answer.webhooks:
        state = "enabled" if hook.enabled else f"disabled: {hook.disable_reason}"
        topics = " ".join(hook.topics)
        out.add_row(hook.webhook_id, hook.url, topics, state, str(hook.pending_count))
    console().print(out)


@webhooks.command()
def update(
    name: Name,
    url: Annotated[str | None, typer.Option(help="Where to from now on.")] = None,
    topic: Annotated[list[str] | None, typer.Option(help="Kinds of events from now on.")] = None,
    attempts_max: Annotated[int | None, typer.Option(help="Failures that disable it.")] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Changes what is given."""
    _update(address, name, as_json, url=url, topics=topic or [], attempts_max=attempts_max)


@webhooks.command()
def enable(name: Name, as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Sends again, beginning with what waits."""
    _update(address, name, as_json, enabled=True)


@webhooks.command()
def disable(name: Name, as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Sends and queues nothing more."""
    _update(address, name, as_json, enabled=False)


@webhooks.command()
def rotate(
    name: Name,
    overlap_hours: Annotated[
        float | None, typer.Option(help="For so long the old secret signs as well. Default: 24.")
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Makes a new secret and shows it once."""
    from positionsizing.v1 import webhook_service_pb2 as pb

    request = pb.RotateWebhookSecretRequest(webhook_id=name, overlap_hours=overlap_hours)
    with connect(address) as client:
        answer = client.webhooks.RotateWebhookSecret(request)
    if as_json:
        print_json(answer)
        return
    say(answer.secret)
    until = f"{answer.overlap_until_time.ToDatetime():%Y-%m-%dT%H:%M:%SZ}"
    typer.echo(f"{_SHOWN}; the one before signs as well until {until}", err=True)


@webhooks.command()
def delete(name: Name, as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Removes a webhook with its deliveries."""
    from positionsizing.v1 import webhook_service_pb2 as pb

    with connect(address) as client:
        answer = client.webhooks.DeleteWebhook(pb.DeleteWebhookRequest(webhook_id=name))
    if as_json:
        print_json(answer)
    else:
        say(f"webhook {name} deleted")


@webhooks.command()
def deliveries(
    name: Name,
    pending: Annotated[bool, typer.Option("--pending", help="Only what waits.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most that are shown.")] = 50,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Shows what has become of events, the newest first."""
    from positionsizing.v1 import webhook_service_pb2 as pb

    from server.cli.render import table

    state = pb.DELIVERY_STATE_PENDING if pending else pb.DELIVERY_STATE_UNSPECIFIED
    request = pb.ListWebhookDeliveriesRequest(webhook_id=name, state=state, page_size=limit)
    with connect(address) as client:
        answer = client.webhooks.ListWebhookDeliveries(request)
    if as_json:
        print_json(answer)
        return
    left = ("event", "type", "portfolio", "committed", "state", "last error")
    out = table(f"Deliveries of {name}", *left[:-1], "attempts", left[-1], left=left)
    for row in answer.deliveries:
        out.add_row(
            row.event_id,
            row.event_type,
            row.portfolio_id or "the firm",
            f"{row.create_time.ToDatetime():%Y-%m-%d %H:%M:%S}",
            pb.DeliveryState.Name(row.state).removeprefix("DELIVERY_STATE_").lower(),
            str(row.attempts),
            row.last_error,
        )
    console().print(out)


@webhooks.command()
def redeliver(
    name: Name,
    event: Annotated[list[str] | None, typer.Option(help="An event, by id.")] = None,
    since: Annotated[str, typer.Option(help=f"All events since then, {TIME}.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Delivers events again, those named or all since a time; at most of the last 7 days."""
    from positionsizing.v1 import webhook_service_pb2 as pb

    request = pb.RedeliverWebhookEventsRequest(webhook_id=name, event_ids=event or [])
    if since:
        request.since_time.FromDatetime(parse_time(since, "--since"))
    with connect(address) as client:
        answer = client.webhooks.RedeliverWebhookEvents(request)
    if as_json:
        print_json(answer)
    else:
        say(f"{answer.event_count} events are delivered again")


def _update(address: str, name: str, as_json: bool, **given: Any) -> None:
    from positionsizing.v1 import webhook_service_pb2 as pb

    request = pb.UpdateWebhookRequest(webhook_id=name, **given)
    with connect(address) as client:
        answer = client.webhooks.UpdateWebhook(request)
    if as_json:
        print_json(answer)
    else:
        say(f"webhook {name} is {_state(answer.webhook)}")


def _state(hook: "pb.Webhook") -> str:
    return "enabled" if hook.enabled else "disabled"
