"""`sizing topics grant`, `revoke` and `grants`: who may write and read topics on the broker."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.common import AsJson, console, print_json, say
from server.cli.errors import CommandError
from server.cli.service import configured_broker

if TYPE_CHECKING:
    from storage.events.client import BrokerConfig

Role = Annotated[str, typer.Argument(help="Role of the broker, as its token says.")]
Topic = Annotated[
    list[str] | None, typer.Option(help="Topic by its short name, such as signals; repeat.")
]
Tenant = Annotated[
    str, typer.Option(help="Whose, where each tenant has a namespace. Default: SIZING_TENANT_ID.")
]


def grant(
    role: Role,
    topic: Topic = None,
    produce: Annotated[bool, typer.Option("--produce", help="It may write.")] = False,
    consume: Annotated[bool, typer.Option("--consume", help="It may read.")] = False,
    tenant: Tenant = "",
) -> None:
    """Lets a role of the broker write or read topics, in place of what it was granted there.

    Without --topic all topics of the namespace, `limits` and `risk-budgets` among them: whoever may
    write these changes limits and parameters. Needs the rights of the broker's administrator.
    """
    from storage.events import grants as storage

    actions = [name for name, said in (("produce", produce), ("consume", consume)) if said]
    if not actions:
        raise CommandError("nothing is granted", "give --produce, --consume or both")
    storage.grant(_broker(tenant, topic), role, actions, topic or ())
    say(f"{role} may {' and '.join(actions)}: {', '.join(topic or ['all topics'])}")


def revoke(role: Role, topic: Topic = None, tenant: Tenant = "") -> None:
    """Takes away what a role was granted on topics, or without --topic on the whole namespace."""
    from storage.events import grants as storage

    storage.revoke(_broker(tenant, topic), role, topic or ())
    say(f"{role} has no grant of {', '.join(topic or ['all topics'])} any more")


def grants(tenant: Tenant = "", as_json: AsJson = False) -> None:
    """Lists who may write and read which topics, beside administrators."""
    from server.cli.render import table
    from storage.events import grants as storage

    found = storage.granted(_broker(tenant, None))
    if as_json:
        print_json({"grants": [vars(item) for item in found]})
        return
    left = ("role", "topic", "may")
    out = table("Grants", *left, left=left)
    for item in found:
        out.add_row(item.role, item.topic or "all", " and ".join(item.actions))
    console().print(out)


def _broker(tenant: str, topic: list[str] | None) -> "BrokerConfig":
    """The namespace that is meant. Raises `CommandError` for a topic that isn't there."""
    from storage.events.topics import expected_subscriptions

    known: dict[str, Any] = expected_subscriptions()
    for name in topic or ():
        if name not in known:
            raise CommandError(f"there is no topic {name!r}", f"topics: {', '.join(known)}")
    config, broker = configured_broker([tenant] if tenant else None)
    return broker.of_tenant(tenant or config.tenant_id)
