"""Lines of a file whose edges are of a stored history or of regimes."""

from pathlib import Path

import pytest

from tests.server.cli.test_commands import EXAMPLES, Sizing, book, sizing

__all__ = ["sizing"]


async def book_with_limits(sizing: Sizing, name: str) -> None:
    await book(sizing, name)  # which sends a market
    limits = str(EXAMPLES / "limits.toml")
    assert (await sizing("portfolio", "limits", name, "--set", limits)).code == 0


async def test_lines_without_an_edge_take_it_from_a_stored_history(
    sizing: Sizing, tmp_path: Path
) -> None:
    await book_with_limits(sizing, "of-a-history")
    few = tmp_path / "prices.csv"  # programs of these tests are for short histories
    closes = (EXAMPLES / "prices.csv").read_text().splitlines()
    few.write_text("\n".join(closes[:61]))
    assert (await sizing("history", "load", str(few), "--universe", "cli-edges")).code == 0
    signals = tmp_path / "signals.csv"
    signals.write_text(
        "instrument_id,side,expected_return,volatility\nAAPL,long,,\nKO,long,,\nWMT,long,0.001,0.02\n"
    )
    words = (
        "--portfolio",
        "of-a-history",
        "--history",
        "cli-edges",
        "--snapshot",
        "cli-close",
        "--json",
    )
    sized = await sizing("size", str(signals), *words)
    assert sized.code == 0, sized.err
    found = await sizing("history", "edges", "cli-edges", "--instrument", "AAPL", "--json")
    edges = sized.json["edges"]
    assert edges["observation_count"] == [59, 59, 0]
    assert edges["payoff"][0] == pytest.approx(found.json["estimates"]["payoff"][0], rel=1e-9)


async def test_lines_by_regime_are_sized_by_the_mixture_predicted(
    sizing: Sizing, tmp_path: Path
) -> None:
    model = tmp_path / "model.toml"
    model.write_text(
        'model_id = "cli-edge-regimes"\nobservations_min = 1\n'
        "[regimes]\ntransition = [0.98, 0.02, 0.05, 0.95]\n"
        "[[regimes.regimes]]\nmean = 0.0006\ndeviation = 0.008\n"
        "[[regimes.regimes]]\nmean = -0.001\ndeviation = 0.02\n"
    )
    assert (await sizing("volatility", "put", str(model), "--from", "2020-01-01")).code == 0
    closes = (EXAMPLES / "market.csv").read_text()
    for day, close in (("2020-12-30", "125.5"), ("2020-12-31", "126.5")):
        market = tmp_path / f"{day}.csv"
        market.write_text(closes.replace("125.674", close))
        loaded = await sizing("market", "load", str(market), "--id", day, "--as-of", day)
        assert loaded.code == 0, loaded.err
    await book_with_limits(sizing, "by-regime")
    # Other tests have told newer days before the model was there.
    rebuild = ("volatility", "rebuild", "cli-edge-regimes", "--from", "2020-01-01")
    assert (await sizing(*rebuild)).code == 0
    signals = tmp_path / "signals.csv"
    signals.write_text(
        "instrument_id,side,regime_expected_return,regime_volatility,expected_return,volatility\n"
        "AAPL,long,0.0006 -0.001,0.008;0.02,,\nKO,long,,,0.0004,0.01\n"
    )
    words = ("--portfolio", "by-regime", "--regimes", "cli-edge-regimes", "--snapshot", "cli-close")
    sized = await sizing("size", str(signals), *words, "--regimes-of", "AAPL", "--json")
    assert sized.code == 0, sized.err
    regimes = sized.json["regimes"]
    assert regimes["lines"] == [0]
    p = regimes["probability"]
    mean = p[0] * 0.0006 - p[1] * 0.001
    variance = p[0] * (0.008**2 + 0.0006**2) + p[1] * (0.02**2 + 0.001**2) - mean**2
    raw = sized.json["waterfall"]["stages"][0]["weight"]
    assert raw[0] == pytest.approx(max(mean / variance, 0.0), rel=1e-9)
    signals.write_text(
        "instrument_id,side,regime_expected_return,regime_volatility\n"
        "AAPL,long,0.0006 -0.001,0.008 0.02\nKO,long,0.0006,0.008\n"
    )
    wrong = await sizing("size", str(signals), *words)
    assert wrong.code == 1
    assert "line 3: regime_expected_return has 1 number where line 2 has 2" in wrong.err
