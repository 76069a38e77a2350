"""A repeated task that fails shows for how long it has been due; one that succeeds does not."""

import pytest
from prometheus_client import generate_latest

from server.app import App
from server.maintenance.tasks import Repeated
from storage.errors import StorageError, Unavailable


@pytest.mark.parametrize("error", [Unavailable("away"), StorageError("odd"), ValueError("a bug")])
async def test_what_fails_is_overdue_until_it_succeeds(error: Exception) -> None:
    clock, errors = 100.0, [error, error]

    async def task() -> None:
        if errors:
            raise errors.pop()

    repeated = Repeated("some", task, 60.0, now=lambda: clock)
    for passed, overdue in ((0.0, 0.0), (50.0, 0.0), (90.0, 30.0)):
        clock = 100.0 + passed
        assert repeated.overdue_s() == overdue
    await repeated.turn()
    clock = 400.0
    await repeated.turn()
    assert repeated.overdue_s() == 240.0
    await repeated.turn()
    assert repeated.overdue_s() == 0.0


async def test_every_task_is_exported(app: App) -> None:
    text = generate_latest(app.telemetry.registry).decode()
    tasks = ("expire", "effective_parameters", "matrices", "models", "analysis", "forget", "seal")
    for task in tasks:
        assert f'sizing_maintenance_overdue_seconds{{task="{task}"}}' in text
