"""Every topic, who reads it, and the policies that keep its messages.

`ensure` makes all of it in one tenant and namespace of the broker (`BrokerConfig.of_tenant` where
each of our tenants has one): a topic that nobody has subscribed to and that has no retention is
emptied by the broker, so subscriptions come before the first message. What each topic promises
is told in `protos/README.md`.
"""

import re
from dataclasses import dataclass

from storage.events.admin import Admin, AdminRefused
from storage.events.client import TENANT, BrokerConfig
from storage.events.ports import Sharing

DEAD_LETTER_SUFFIX = "-dead-letter"

_COORDINATION = "coordination-engine"
_RISK = "risk-coordination"
_PORTFOLIOS = "portfolio-management"
_BUDGET = "risk-budget"
_CONFIGURATION = "configuration"
_REPORTING = "reporting"
_OPERATORS = "operators"
_ATTRIBUTION = "performance-attribution"
_OPTIMISATION = "strategy-optimisation"
_SERVICE = "position-sizing"


@dataclass(frozen=True)
class Outgoing:
    """A topic this service publishes and the subscribers it promises to keep messages for."""

    name: str
    subscriptions: tuple[str, ...]


@dataclass(frozen=True)
class Incoming:
    """A topic this service consumes, and how its replicas share that."""

    name: str
    sharing: Sharing
    subscription: str = _SERVICE


OUTGOING = (
    Outgoing("position-sized", (_COORDINATION, _RISK, _PORTFOLIOS, _BUDGET, _REPORTING)),
    Outgoing("decision-settled", (_COORDINATION, _RISK, _PORTFOLIOS, _BUDGET, _REPORTING)),
    Outgoing("reservation-expired", (_COORDINATION, _RISK, _PORTFOLIOS, _BUDGET, _REPORTING)),
    Outgoing("limit-breached", (_COORDINATION, _RISK, _PORTFOLIOS, _REPORTING)),
    Outgoing("portfolio-changed", (_COORDINATION, _RISK, _PORTFOLIOS, _REPORTING)),
    Outgoing("limits-changed", (_RISK, _PORTFOLIOS, _CONFIGURATION, _REPORTING)),
    Outgoing("parameters-changed", (_RISK, _BUDGET, _CONFIGURATION, _REPORTING)),
    Outgoing("effective-parameters-changed", (_RISK, _BUDGET, _CONFIGURATION, _REPORTING)),
    Outgoing("sizing-analytics", (_REPORTING, _ATTRIBUTION, _OPTIMISATION)),
    Outgoing(
        "trading-state-changed", (_COORDINATION, _RISK, _PORTFOLIOS, _CONFIGURATION, _REPORTING)
    ),
    Outgoing("corporate-actions", (_COORDINATION, _RISK, _PORTFOLIOS, _REPORTING)),
    Outgoing("alerts", (_RISK, _REPORTING, _OPERATORS)),
)

# By key: the work is per portfolio and there is much of it. One at a time: a message may replace
# what another of a different key said (a firm's limits and a portfolio's, a snapshot and its
# matrix), there is little of it, and the order of the whole topic is worth more than speed.
INCOMING = (
    Incoming("signals", Sharing.BY_KEY),
    Incoming("portfolio-state", Sharing.BY_KEY),
    Incoming("fills", Sharing.BY_KEY),
    Incoming("limits", Sharing.ONE_AT_A_TIME),
    Incoming("risk-budgets", Sharing.ONE_AT_A_TIME),
    Incoming("market-data", Sharing.ONE_AT_A_TIME),
    Incoming("correlations", Sharing.ONE_AT_A_TIME),
    Incoming("histories", Sharing.ONE_AT_A_TIME),
    Incoming("conditions", Sharing.ONE_AT_A_TIME),
    Incoming("features", Sharing.ONE_AT_A_TIME),
)


@dataclass(frozen=True)
class Policies:
    """How long the broker keeps messages; None leaves what is set there, or sets the default.

    `retention_*`: messages everybody has acknowledged, kept for reading again. `time_to_live_s`:
    a message its subscriber has not acknowledged for this long is dropped for that subscriber,
    which has to catch up by `ListDecisions`; it bounds what an abandoned subscription can fill.
    """

    retention_minutes: int | None = None
    """Default: 7 days."""
    retention_mb: int | None = None
    """For each topic. Default: 10 GB."""
    time_to_live_s: int | None = None
    """Default: 7 days."""

    def __post_init__(self) -> None:
        given = (self.retention_minutes, self.retention_mb, self.time_to_live_s)
        if any(value is not None and value < 1 for value in given):
            raise ValueError("retention and time to live must be at least 1")


NO_POLICIES = Policies()
RETENTION_DEFAULT = {"retentionTimeInMinutes": 7 * 24 * 60, "retentionSizeInMB": 10 * 1024}
TIME_TO_LIVE_DEFAULT_S = 7 * 24 * 3600
PATIENCE_S = 30.0
"""How long `ensure` waits for a broker that is starting or busy."""


@dataclass(frozen=True)
class Ensured:
    """What `ensure` found missing and made, by name; subscriptions as topic/subscription."""

    topics: tuple[str, ...]
    subscriptions: tuple[str, ...]


def expected_subscriptions() -> dict[str, tuple[str, ...]]:
    """Every topic by its short name, with its durable subscriptions."""
    expected = {topic.name: topic.subscriptions for topic in OUTGOING}
    for incoming in INCOMING:
        expected[incoming.name] = (incoming.subscription,)
        expected[incoming.name + DEAD_LETTER_SUFFIX] = (_OPERATORS,)
    return expected


def ensure(
    config: BrokerConfig, policies: Policies = NO_POLICIES, *, patience_s: float = PATIENCE_S
) -> Ensured:
    """Make tenant, namespace, policies, topics and subscriptions; what is there stays as it is.

    Blocks (some 50 short HTTP calls): from asyncio use `asyncio.to_thread`. Policies given here are
    set, those an operator has set before stay. So does a topic made with partitions.

    Errors: `BrokerUnavailable` where a call finds no broker for `patience_s`; `AdminRefused` where
    the token lacks the right.
    """
    admin = Admin(config, patience_s)
    _ensure_namespace(admin, config, policies)
    place = f"persistent/{config.tenant}/{config.namespace}"
    there = _topics_there(admin, place)
    topics, subscriptions = [], []
    for topic, wanted in expected_subscriptions().items():
        if topic not in there and admin.put(f"{place}/{topic}"):
            topics.append(topic)
        known = admin.get(f"{place}/{topic}/subscriptions")
        for name in wanted:
            if name not in known and admin.put(f"{place}/{topic}/subscription/{name}", _EARLIEST):
                subscriptions.append(f"{topic}/{name}")
    return Ensured(tuple(topics), tuple(subscriptions))


def tenant_ids(config: BrokerConfig) -> list[str]:
    """Whose namespaces there are, where each tenant has its own. Blocks. Errors: as `ensure`."""
    before, _, after = config.namespace.partition(TENANT)
    pattern = re.compile(re.escape(before) + "(.+)" + re.escape(after))
    names = (
        str(name).rpartition("/")[2] for name in Admin(config).get(f"namespaces/{config.tenant}")
    )
    return sorted(found[1] for name in names if (found := pattern.fullmatch(name)))


def missing(config: BrokerConfig) -> list[str]:
    """Topics that are not there, by their short names. Blocks. Errors: as `ensure`."""
    place = f"persistent/{config.tenant}/{config.namespace}"
    try:
        there = _topics_there(Admin(config), place)
    except AdminRefused as error:
        if error.status != 404:
            raise
        there = set()  # not even a namespace
    return [topic for topic in expected_subscriptions() if topic not in there]


def _topics_there(admin: Admin, place: str) -> set[str]:
    there = {name.rsplit("/", 1)[1].split("-partition-")[0] for name in admin.get(place)}
    return there | {name.rsplit("/", 1)[1] for name in admin.get(f"{place}/partitioned")}


_EARLIEST = {"ledgerId": -1, "entryId": -1, "partitionIndex": -1}


def _ensure_namespace(admin: Admin, config: BrokerConfig, policies: Policies) -> None:
    if config.tenant not in admin.get("tenants"):
        body = {"allowedClusters": admin.get("clusters"), "adminRoles": []}
        admin.put(f"tenants/{config.tenant}", body)
    namespace = f"namespaces/{config.tenant}/{config.namespace}"
    if f"{config.tenant}/{config.namespace}" not in admin.get(f"namespaces/{config.tenant}"):
        admin.put(namespace, {})
    wanted = {
        "retentionTimeInMinutes": policies.retention_minutes,
        "retentionSizeInMB": policies.retention_mb,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    retention = RETENTION_DEFAULT | (admin.get(f"{namespace}/retention") or {}) | given
    time_to_live_s = policies.time_to_live_s or admin.get(f"{namespace}/messageTTL")
    idle = {
        "inactiveTopicDeleteMode": "delete_when_no_subscriptions",
        "maxInactiveDurationSeconds": 3600,
        "deleteWhileInactive": False,
    }
    admin.post(f"{namespace}/retention", retention)
    admin.post(f"{namespace}/messageTTL", time_to_live_s or TIME_TO_LIVE_DEFAULT_S)
    admin.post(f"{namespace}/deduplication", True)
    admin.post(f"{namespace}/inactiveTopicPolicies", idle)
