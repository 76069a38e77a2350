"""Which roles of the broker may write and read topics: of a namespace, or of single topics."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from storage.events.admin import Admin
from storage.events.client import BrokerConfig
from storage.events.topics import expected_subscriptions

PRODUCE, CONSUME = "produce", "consume"


@dataclass(frozen=True)
class Grant:
    """What a role may do; topic: by its short name, "" for all of the namespace."""

    role: str
    topic: str
    actions: tuple[str, ...]


def grant(
    config: BrokerConfig, role: str, actions: Sequence[str], topics: Sequence[str] = ()
) -> None:
    """Let a role do so, in the place of what it was granted there; without topics, on all of them.

    Blocks. Errors: `AdminRefused`, `BrokerUnavailable`.
    """
    admin = Admin(config)
    for place in _places(config, topics):
        admin.post(f"{place}/permissions/{quote(role, safe='')}", sorted(actions))


def revoke(config: BrokerConfig, role: str, topics: Sequence[str] = ()) -> None:
    """Take away what a role was granted there. Blocks. Errors: as `grant`."""
    admin = Admin(config)
    for place in _places(config, topics):
        admin.delete(f"{place}/permissions/{quote(role, safe='')}")


def granted(config: BrokerConfig) -> list[Grant]:
    """What is granted, those of the whole namespace first. Blocks. Errors: as `grant`."""
    admin = Admin(config)
    (everywhere,) = _places(config, ())
    of_all = admin.get(f"{everywhere}/permissions")
    found = [Grant(role, "", tuple(sorted(of_all[role]))) for role in sorted(of_all)]
    for topic in sorted(expected_subscriptions()):
        (place,) = _places(config, [topic])
        own = admin.get(f"{place}/permissions")  # with those of the namespace
        for role in sorted(own):
            if own[role] != of_all.get(role):
                found.append(Grant(role, topic, tuple(sorted(own[role]))))
    return found


def _places(config: BrokerConfig, topics: Sequence[str]) -> list[str]:
    where = f"{config.tenant}/{config.namespace}"
    return [f"persistent/{where}/{topic}" for topic in topics] or [f"namespaces/{where}"]
