"""Volatility models and market conditions from the command line."""

from pathlib import Path

from test_commands import Sizing, book, sizing

__all__ = ["sizing"]


async def test_a_volatility_model_is_stored_shown_and_compared(
    sizing: Sizing, tmp_path: Path
) -> None:
    file = tmp_path / "model.toml"
    file.write_text('model_id = "cli-daily"\nhalf_life = 10.0\n')
    stored = await sizing("volatility", "put", str(file), "--from", "2020-01-01", "--reason", "new")
    assert stored.code == 0, stored.err
    assert "cli-daily version 1" in stored.out
    assert "cli-daily" in (await sizing("volatility", "list")).out
    shown = await sizing("volatility", "show", "cli-daily", "--json")
    assert shown.json["state"]["version"] == "1"
    compared = await sizing("volatility", "rebuild", "cli-daily", "--compare", "--json")
    assert compared.code == 0, compared.err
    assert compared.json.get("first_different", "") == ""
    file.write_text('model_id = "cli-daily"\nhalf_life = 0.0\n')
    refused = await sizing("volatility", "put", str(file))
    assert refused.code == 1
    assert "half_life" in refused.err


async def test_conditions_are_put_and_listed(sizing: Sizing) -> None:
    assert (await sizing("condition", "put", "cli-turbulence", "--value", "0.8")).code == 0
    assert "0.8" in (await sizing("condition", "list")).out


async def test_parameters_are_shown_with_their_origin_and_their_rules(
    sizing: Sizing, tmp_path: Path
) -> None:
    await book(sizing, "adapting")
    file = tmp_path / "parameters.toml"
    file.write_text(
        'kelly_fraction = 0.5\n[[condition_rules.rules]]\nname = "calm"\n'
        'condition_id = "cli-unseen"\nenter = 0.7\nleave = 0.3\nstale_multiplier = 0.4\n'
    )
    stored = await sizing(
        "parameters", "set", str(file), "--portfolio", "adapting", "--reason", "careful"
    )
    assert stored.code == 0, stored.err
    shown = await sizing("parameters", "show", "--portfolio", "adapting")
    assert shown.code == 0, shown.err
    assert "calm: x 0.4, counts (cli-unseen has never been observed)" in shown.out
    assert "Kelly fraction now 0.2" in shown.out
    assert "condition_rules" in shown.out
    assert "careful" in shown.out
