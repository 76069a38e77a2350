"""Keep a table of target positions from `position-sized` events, each applied exactly once.

    pip install pulsar-client ./protos/python
    python consumer.py --service-url pulsar://127.0.0.1:6650 --database targets.db

Pulsar delivers at least once: after a crash, a reconnect or a slow acknowledgement the same event
comes again. What makes it effectively once is the order of three steps:

    1. begin a transaction and insert the event's id; if it is there already, this is a repetition
    2. do the work in the same transaction, and commit
    3. acknowledge

Killed before 2 has ended nothing has happened, and the event comes again. Killed between 2 and 3
it comes again too, and step 1 finds it. Copy this file and replace `Targets.apply` by your work;
the id and the work have to be in one transaction of one database, whichever that is.
"""

import argparse
import contextlib
import signal
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pulsar
from positionsizing.v1 import events_pb2, sizing_pb2, types_pb2

TOPICS = ("position-sized", "trading-state-changed")
SUBSCRIPTION = "portfolio-management"
# An event comes again for as long as the topic keeps it; remember ids for longer than that.
REMEMBER = timedelta(days=14)

SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (event_id TEXT PRIMARY KEY, seen_time TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS target (
    tenant_id TEXT NOT NULL, portfolio_id TEXT NOT NULL, instrument_id TEXT NOT NULL,
    lots INTEGER NOT NULL, decision_id TEXT NOT NULL, portfolio_sequence INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, portfolio_id, instrument_id));
CREATE TABLE IF NOT EXISTS halt (
    tenant_id TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, kind, id));
CREATE TABLE IF NOT EXISTS refused (event_id TEXT PRIMARY KEY, code TEXT, message TEXT);
"""


class Targets:
    """The work: the last lots decided for each instrument, in SQLite."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(SCHEMA)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def apply(self, properties: dict[str, str], payload: bytes) -> bool:
        """Do what an event says, unless it was done before; True if it was new."""
        with self._transaction() as database:
            now = datetime.now(UTC).isoformat()
            new = database.execute(
                "INSERT OR IGNORE INTO seen VALUES (?, ?)", (properties["event_id"], now)
            ).rowcount
            if not new:
                return False
            if properties["event_type"] == "PositionSized":
                self._store(properties["tenant_id"], payload)
            elif properties["event_type"] == "TradingStateChanged":
                self._note_state(properties["tenant_id"], payload)
            elif properties["event_type"] == "SignalsRefused":
                refusal = events_pb2.SignalsRefused.FromString(payload)
                row = (properties["event_id"], refusal.code, refusal.message)
                database.execute("INSERT INTO refused VALUES (?, ?, ?)", row)
            # A type we don't know is of a newer release: seen, and nothing to do for us.
            return True

    def forget(self) -> int:
        """Drop the ids of events too old to come again; call it once a day."""
        limit = (datetime.now(UTC) - REMEMBER).isoformat()
        return self._database.execute("DELETE FROM seen WHERE seen_time < ?", (limit,)).rowcount

    def _store(self, tenant_id: str, payload: bytes) -> None:
        event = events_pb2.PositionSized.FromString(payload)
        decision = event.decision
        sizes = decision.sizes
        number = event.portfolio_sequence
        if self._is_halted(tenant_id, decision):
            return
        rows = [
            (tenant_id, decision.portfolio_id, instrument, lots, decision.decision_id, number)
            for instrument, lots in zip(sizes.instrument_ids, sizes.lots, strict=True)
        ]
        # Within a topic a portfolio's events come in order. The guard is for the day somebody
        # reads old events again: what is newer stays.
        self._database.executemany(
            """INSERT INTO target VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET lots = excluded.lots, decision_id = excluded.decision_id,
                portfolio_sequence = excluded.portfolio_sequence
            WHERE excluded.portfolio_sequence > target.portfolio_sequence""",
            rows,
        )

    def _note_state(self, tenant_id: str, payload: bytes) -> None:
        """Remember the number of the last halt (or change to REDUCING) of a scope."""
        event = events_pb2.TradingStateChanged.FromString(payload)
        kind = event.scope.WhichOneof("scope") or "firm"
        id = "" if kind == "firm" else getattr(event.scope, kind)
        if event.trading_state == types_pb2.TRADING_STATE_ACTIVE:
            return  # what was decided before the halt stays undone
        self._database.execute(
            """INSERT INTO halt VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE
            SET number = max(number, excluded.number)""",
            (tenant_id, kind, id, event.trading_state_version),
        )

    def _is_halted(self, tenant_id: str, decision: sizing_pb2.SizingDecision) -> bool:
        """Whether a size was decided before a halt of its firm, strategy or portfolio.

        The number tells, whichever of the two arrives first. Groups: who trades portfolios of one
        knows which, and adds that scope here.
        """
        number = decision.versions.trading_state_version
        row = self._database.execute(
            """SELECT 1 FROM halt WHERE tenant_id = ? AND number > ? AND (
                kind = 'firm' OR (kind = 'strategy_id' AND id = ?)
                OR (kind = 'portfolio_id' AND id = ?))""",
            (tenant_id, number, decision.strategy_id, decision.portfolio_id),
        ).fetchone()
        return row is not None

    @contextlib.contextmanager
    def _transaction(self):  # type: ignore[no-untyped-def]
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


def consume(
    client: pulsar.Client,
    topic: str | list[str],
    apply: Callable[[dict[str, str], bytes], bool],
    stop: threading.Event,
) -> tuple[int, int]:
    """Take in events until `stop`; how many were new, and how many came again.

    Several processes may run this at once: the subscription gives each portfolio to one of them,
    in order. If the work fails, the exception ends the process with nothing acknowledged, and its
    portfolios go to the others; restart it when what failed has been mended.
    """
    n_new = n_again = 0
    consumer = client.subscribe(
        topic,
        SUBSCRIPTION,
        consumer_type=pulsar.ConsumerType.KeyShared,
        initial_position=pulsar.InitialPosition.Earliest,
    )
    try:
        while not stop.is_set():
            try:
                message = consumer.receive(timeout_millis=500)
            except pulsar.Timeout:
                continue
            if apply(message.properties(), message.data()):
                n_new += 1
            else:
                n_again += 1
            consumer.acknowledge(message)
    finally:
        consumer.close()
    return n_new, n_again


def main() -> None:
    """Run until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--service-url", default="pulsar://127.0.0.1:6650")
    parser.add_argument("--namespace", default="public/sizing")
    parser.add_argument("--token-file", help="where the broker asks for a token")
    parser.add_argument("--trust-file", help="authorities to trust, for pulsar+ssl://")
    parser.add_argument("--database", default="targets.db")
    options = parser.parse_args()
    authentication = None
    if options.token_file:
        token = Path(options.token_file)  # read for each connection, so it can be renewed
        authentication = pulsar.AuthenticationToken(lambda: token.read_text().strip())
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    targets = Targets(options.database)
    client = pulsar.Client(
        options.service_url,
        authentication=authentication,
        tls_trust_certs_file_path=options.trust_file,
        tls_validate_hostname=True,
    )
    topics = [f"persistent://{options.namespace}/{topic}" for topic in TOPICS]
    print("new {}, came again {}".format(*consume(client, topics, targets.apply, stop)))
    client.close()
    targets.close()


if __name__ == "__main__":
    main()
