"""Decisions recorded by earlier releases, replayed by this one on a migrated database."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from positionsizing.v1 import sizing_service_pb2

from compute.limits.policy import Limits
from compute.market import Positions
from compute.optimize.execution import Programs
from compute.parameters import merged
from server.calls.errors import Refusal
from server.sizing import decision_inputs
from storage import embedded
from storage.postgres.migrations import migrate
from tests.fixtures_postgres import create_database
from tests.server.golden import tables
from tests.server.support.service_client import Client, started

FOLDER = Path(__file__).parent
RELEASES = sorted(path for path in FOLDER.glob("schema_*") if path.is_dir())


def test_there_is_a_release_to_replay() -> None:
    assert RELEASES


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
async def test_decisions_of_an_earlier_release_replay_with_the_same_lots(
    release: Path,
    postgres_server: embedded.EmbeddedServer,
    joint_programs: Programs,
    tmp_path: Path,
) -> None:
    dsn = create_database(postgres_server)
    await migrate(dsn, json.loads((release / "about.json").read_text())["schema_version"])
    await tables.load(dsn, release)
    await migrate(dsn)
    settings = {"dsn": dsn, "joint_assets": (16,), "joint_scenarios": (64,)}
    different, count = [], 0
    async with (
        started(postgres_server, joint_programs.registry, tmp_path, **settings) as app,
        Client.connected(app.port) as client,
    ):
        listed = await client.sizing.ListDecisions(
            sizing_service_pb2.ListDecisionsRequest(page_size=1000)
        )
        for decision in listed.decisions:
            replay = await client.sizing.ReplayDecision(
                sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
            )
            count += 1
            if not replay.lots_equal or replay.weight_difference_max > 1e-9:
                different.append(decision.decision_id)
    assert count >= 70
    # A rule that was wrong is not kept for the sake of a replay: each such decision is listed with
    # the rule that changed, and all others come out to the lot.
    changed = json.loads((release / "changed.json").read_text())
    assert sorted(different) == sorted(changed)


def keys_of(document: Any, path: str = "") -> set[str]:
    """The path of every key in a JSON document; entries of lists share one."""
    if isinstance(document, dict):
        return {f"{path}{key}" for key in document} | {
            found for key, value in document.items() for found in keys_of(value, f"{path}{key}.")
        }
    if isinstance(document, list):
        return {found for value in document for found in keys_of(value, path)}
    return set()


def a_context() -> decision_inputs.DecisionInputs:
    nothing = np.zeros(2)
    return decision_inputs.DecisionInputs(
        market_snapshot_id="close",
        base_currency="USD",
        positions=Positions(nothing, nothing, nothing, 1.0),
        limits=Limits(),
        parameters=merged([]),
        reducing=False,
        shared=None,
    )


def test_stored_keys_of_a_release_stay_until_the_schema_changes() -> None:
    known = json.loads((FOLDER / "stored_keys.json").read_text())
    written = keys_of(orjson.loads(decision_inputs.encode(a_context())))
    gone = set(known[str(decision_inputs.SCHEMA)]) - written
    assert not gone, "renamed or removed: raise SCHEMA, add an upgrade and freeze the new keys"


def test_a_document_of_a_newer_release_is_refused_with_its_version() -> None:
    document = orjson.loads(decision_inputs.encode(a_context()))
    document["schema"] = decision_inputs.SCHEMA + 1
    with pytest.raises(Refusal, match=f"schema version {decision_inputs.SCHEMA + 1}"):
        decision_inputs.market_named(orjson.dumps(document))
