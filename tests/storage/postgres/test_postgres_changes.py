"""Whose decisions a change of the tenant makes stale; what is not noted concerns everybody."""

import pytest

from storage.postgres import changes
from storage.postgres.changes import WHOLE_TENANT, Since, Subject, SubjectKind
from storage.postgres.pool import Database
from tests.fixtures_postgres import TENANT

MINE, OTHER = Subject(SubjectKind.STRATEGY, "mine"), Subject(SubjectKind.STRATEGY, "other")


def reads() -> list[Subject]:
    return [MINE]


async def since(database: Database, version: int) -> Since:
    async with database.connection(TENANT, deadline_s=5) as connection:
        newest = await connection.fetchval("SELECT version FROM tenant WHERE tenant_id = 'acme'")
        return await changes.since(connection, TENANT, version, newest)


async def raise_versions(database: Database, *subjects: Subject) -> int:
    """The version before them."""
    async with database.transaction(TENANT, deadline_s=5) as connection:
        made = [await changes.change(connection, TENANT, subject) for subject in subjects]
    return made[0] - 1


@pytest.mark.parametrize(
    ("subjects", "expected"),
    [
        ([OTHER, OTHER], False),
        ([OTHER, MINE, OTHER], True),
        ([WHOLE_TENANT, OTHER], True),
        ([Subject(SubjectKind.PORTFOLIO, "mine")], False),
    ],
)
async def test_a_change_concerns_who_reads_its_subject(
    subjects: list[Subject], expected: bool, database: Database
) -> None:
    before = await raise_versions(database, *subjects)
    found = await since(database, before)
    assert found.concerns(before, reads) is expected
    assert found.concerns(before, None)
    assert not found.concerns(before + len(subjects), reads)


async def test_what_was_computed_after_a_change_is_not_stale_for_it(database: Database) -> None:
    before = await raise_versions(database, MINE, OTHER)
    found = await since(database, before)
    assert found.concerns(before, reads)
    assert not found.concerns(before + 1, reads)


async def test_a_version_without_a_note_concerns_everybody(database: Database) -> None:
    """As an older release raises it, which may have halted the firm."""
    before = await raise_versions(database, OTHER)
    async with database.transaction(TENANT, deadline_s=5) as connection:
        await connection.execute("UPDATE tenant SET version = version + 1 WHERE tenant_id = 'acme'")
    await raise_versions(database, OTHER)
    assert (await since(database, before)).concerns(before, reads)
    assert not (await since(database, before + 2)).concerns(before + 2, reads)


async def test_notes_of_long_ago_are_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "NOTES_MAX", 3)
    before = await raise_versions(database, *[OTHER] * 5)
    assert (await since(database, before)).concerns(before, reads)
    assert not (await since(database, before + 2)).concerns(before + 2, reads)
    async with database.connection(TENANT, deadline_s=5) as connection:
        assert await connection.fetchval("SELECT count(*) FROM tenant_change") == 3
