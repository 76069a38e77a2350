"""`sizing learn schedule` against a real service."""

from tests.server.cli.test_commands import Sizing, sizing

__all__ = ["sizing"]


async def test_a_schedule_is_set_shown_and_ended(sizing: Sizing) -> None:
    words = ("--universe", "nowhere", "--every", "14", "--promotion", "with-evidence")
    made = await sizing("learn", "schedule", "set", "weekly", *words, "--retirement", "keep")
    assert made.code == 0, made.err
    assert "trained from universe nowhere" in made.out
    listed = (await sizing("learn", "schedule", "list", "--json")).json["schedules"]
    (mine,) = [item for item in listed if item["schedule_id"] == "weekly"]
    assert mine["interval_days"] == 14
    assert mine["promotion"] == "PROMOTION_POLICY_WITH_EVIDENCE"
    assert mine["retirement"] == "RETIREMENT_POLICY_KEEP"
    assert mine["training"]["kind"] == "MODEL_KIND_LOGISTIC"
    shown = (await sizing("learn", "schedule", "list")).out
    assert "with evidence" in shown
    assert "nowhere" in shown
    wrong = await sizing("learn", "schedule", "set", "weekly", *words[:2], "--every", "0")
    assert wrong.code == 1
    assert "interval_days" in wrong.err
    taken = await sizing("learn", "schedule", "set", "weekly", *words[:2], "--retirement", "never")
    assert taken.code == 2
    assert "ended" in (await sizing("learn", "schedule", "delete", "weekly")).out
    gone = await sizing("learn", "schedule", "delete", "weekly")
    assert "does not exist" in gone.err
