"""Volatility models and market conditions from the command line."""

from pathlib import Path

from tests.server.cli.test_commands import Sizing, book, sizing

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


async def test_a_model_with_regimes_shows_what_it_predicts(sizing: Sizing, tmp_path: Path) -> None:
    await book(sizing, "regimes")  # which sends a market
    file = tmp_path / "regimes.toml"
    file.write_text(
        'model_id = "cli-regimes"\n[regimes]\ntransition = [0.98, 0.02, 0.05, 0.95]\n'
        "[[regimes.regimes]]\nmean = 0.0006\ndeviation = 0.008\n"
        "[[regimes.regimes]]\nmean = -0.001\ndeviation = 0.02\n"
    )
    stored = await sizing("volatility", "put", str(file), "--from", "2020-01-01")
    assert stored.code == 0, stored.err
    shown = await sizing("volatility", "show", "cli-regimes")
    assert shown.code == 0, shown.err
    assert "turbulent next" in shown.out
    answer = await sizing("volatility", "show", "cli-regimes", "--json")
    assert len(answer.json["regime_probability"]) == len(answer.json["instrument_ids"]) > 0


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


async def test_what_a_rule_would_have_done_on_past_days(sizing: Sizing, tmp_path: Path) -> None:
    await book(sizing, "looking-back")
    for day, value in (("01", "0.9"), ("03", "0.1")):
        put = ("condition", "put", "cli-past", "--value", value, "--as-of", f"2024-01-{day}")
        assert (await sizing(*put)).code == 0
    file = tmp_path / "parameters.toml"
    file.write_text(
        'kelly_fraction = 0.5\n[[condition_rules.rules]]\nname = "calm"\n'
        'condition_id = "cli-past"\nenter = 0.7\nleave = 0.3\nmultiplier = 0.5\n'
    )
    times = ("--from", "2024-01-01", "--to", "2024-01-04")
    asked = ("parameters", "simulate", str(file), "--portfolio", "looking-back", *times)
    shown = await sizing(*asked)
    assert shown.code == 0, shown.err
    assert "calm: counted at 2 of 4 times, smallest x 0.5" in shown.out
    answer = await sizing(*asked, "--instrument", "KO", "--json")
    assert answer.json["kelly_fraction"] == [0.25, 0.25, 0.5, 0.5]
    assert answer.json["lines"][0]["edge_multiplier"] == [1.0] * 4
    refused = await sizing(*asked, "--step", "0.5")
    assert refused.code == 1
    assert "step" in refused.err


async def test_a_model_is_fitted_to_a_history_and_put(sizing: Sizing, tmp_path: Path) -> None:
    loaded = await sizing("history", "load", "examples/prices.csv", "--universe", "cli-fits")
    assert loaded.code == 0, loaded.err
    out = tmp_path / "model.json"
    given = ("--universe", "cli-fits", "--instrument", "KO", "--id", "cli-fitted")
    fitted = await sizing("volatility", "fit", "gjr-garch", *given, "--out", str(out))
    assert fitted.code == 0, fitted.err
    assert "nothing is stored" in fitted.out
    assert "loss on the last third" in fitted.out
    assert "cli-fitted" not in (await sizing("volatility", "list")).out
    assert (await sizing("volatility", "put", str(out))).code == 0
    assert "cli-fitted" in (await sizing("volatility", "list")).out
    refused = await sizing("volatility", "fit", "magic", *given)
    assert refused.code == 2
