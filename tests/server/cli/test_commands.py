"""The commands of the README against a real service, and what they say when they can't."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from server.app import App
from server.cli import app as cli

EXAMPLES = Path(__file__).parents[3] / "examples"


class Said(NamedTuple):
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Sizing = Callable[..., Awaitable[Said]]


@pytest.fixture
def sizing(app: App, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sizing:
    """`await sizing("portfolio", "list")` runs a command against the app of these tests."""
    monkeypatch.setenv("SIZING_ADDRESS", f"127.0.0.1:{app.port}")

    def call(words: list[str]) -> int:
        try:
            cli(words)
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    async def run(*words: str) -> Said:
        code = await asyncio.to_thread(call, list(words))
        return Said(code, *capsys.readouterr())

    return run


async def book(sizing: Sizing, name: str) -> None:
    """The example book as a portfolio of this name."""
    market = ("market", "load", str(EXAMPLES / "market.csv"), "--id", "cli-close")
    assert (await sizing(*market, "--as-of", "2022-12-28T21:00Z")).code == 0
    holdings = str(EXAMPLES / "holdings.csv")
    create = ("portfolio", "create", name, "--cash", "4e7", "--holdings", holdings)
    assert (await sizing(*create)).code == 0


def signals(name: str, *words: str) -> tuple[str, ...]:
    file = str(EXAMPLES / "signals.csv")
    return ("size", file, "--portfolio", name, "--snapshot", "cli-close", *words)


async def test_the_way_through_the_readme(sizing: Sizing) -> None:
    await book(sizing, "readme")
    refused = await sizing(*signals("readme"))
    assert refused.code == 1
    assert "no limits are stored" in refused.err
    assert "sizing portfolio limits" in refused.err
    limits = ("portfolio", "limits", "readme", "--set", str(EXAMPLES / "limits.toml"))
    assert "weight_max" in (await sizing(*limits, "--reason", "first")).out
    # For this portfolio only: other tests use the same service with the built-in defaults.
    parameters = str(EXAMPLES / "parameters.toml")
    stored = await sizing("parameters", "set", parameters, "--portfolio", "readme")
    assert "version 1" in stored.out
    sized = await sizing(*signals("readme"))
    assert sized.code == 0
    assert "group energy: at most 15.00% gross" in sized.out
    newest = (await sizing("decisions", "--portfolio", "readme", "--json")).json["decisions"][0]
    explained = await sizing("explain", newest["decision_id"], "--instrument", "RRC")
    assert "trade at most 1.00% of the daily volume" in explained.out
    assert "AAPL" not in explained.out
    replayed = await sizing("replay", newest["decision_id"])
    assert replayed.code == 0
    assert "the same lots" in replayed.out
    assert newest["decision_id"] in (await sizing("portfolio", "reservations", "readme")).out
    ids = (await sizing("decisions", "--portfolio", "readme", "--limit", "1", "--ids")).out
    assert ids == newest["decision_id"] + "\n"
    wrong = await sizing("settle", ids.strip(), "--fill", "NONE=1@1")
    assert "NONE is not in decision" in wrong.err
    wrong = await sizing("settle", ids.strip(), "--fill", "GE=1@1")
    assert "no whole lots of" in wrong.err
    partly = await sizing("settle", ids.strip(), "--fill", "GE=-100@82.5,fee=3")
    assert "open" in partly.out
    assert "still open: GE" in partly.out
    filled = await sizing("settle", ids.strip(), "--filled")
    assert "filled" in filled.out
    held = (await sizing("portfolio", "show", "readme", "--json")).json["holdings"]
    assert "GE" not in held["instrument_ids"]


async def test_json_is_the_answer(sizing: Sizing) -> None:
    await book(sizing, "programs")
    await sizing("portfolio", "limits", "programs", "--set", str(EXAMPLES / "limits.toml"))
    decision = (await sizing(*signals("programs", "--validate-only", "--json"))).json
    assert len(decision["sizes"]["lots"]) == 20
    assert "decision_id" not in decision
    stages = decision["waterfall"]["stages"]
    first, last = stages[0]["weight"], stages[-1]["weight"]
    for line in range(20):
        steps = [b["weight"][line] - a["weight"][line] for a, b in zip(stages, stages[1:])]  # noqa: B905, RUF007
        assert first[line] + sum(steps) == last[line]


async def test_halt_and_resume(sizing: Sizing) -> None:
    await book(sizing, "halted")
    await sizing("portfolio", "limits", "halted", "--set", str(EXAMPLES / "limits.toml"))
    assert "halted" in (await sizing("portfolio", "halt", "halted", "--reason", "test")).out
    refused = await sizing(*signals("halted", "--json"))
    assert refused.code == 1
    assert json.loads(refused.err)["error"]["reason"] == "TRADING_HALTED"
    assert "active" in (await sizing("portfolio", "resume", "halted")).out
    assert (await sizing(*signals("halted", "--validate-only"))).code == 0


async def test_a_wrong_line_is_named_by_its_line_in_the_file(
    sizing: Sizing, tmp_path: Path
) -> None:
    await book(sizing, "wrong")
    await sizing("portfolio", "limits", "wrong", "--set", str(EXAMPLES / "limits.toml"))
    file = tmp_path / "mine.csv"
    file.write_text("instrument_id,side,win_probability,payoff\nKO,long,0.6,1\nXOM,long,1.6,1\n")
    said = await sizing("size", str(file), "--portfolio", "wrong", "--snapshot", "cli-close")
    assert said.code == 0
    assert "mine.csv line 3, signals.win_probability[1]" in said.out
    assert "refused, position kept" in said.out
    refused = await sizing(
        *("size", str(file), "--portfolio", "wrong", "--snapshot", "cli-close", "--all-or-nothing")
    )
    assert refused.code == 1
    assert "signals.win_probability[1]" in refused.err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("portfolio", "show", "nobody"), 1, "does not exist"),
        (("explain", "not-an-id"), 1, "must be a UUID"),
        (("portfolio", "halt"), 2, "name one"),
        (("settle",), 2, "DECISION"),
        (("settle", "some-id"), 2, "--filled"),
        (("settle", "some-id", "--fill", "KO=1200"), 1, "is no fill"),
        (("size", "no-such-file.csv"), 2, "does not exist"),
        (("portfolio", "list", "--address", "127.0.0.1:1"), 1, "no service answers"),
        (("market", "load", str(EXAMPLES / "market.csv"), "--as-of", "noon"), 1, "not a time"),
    ],
)
async def test_errors_are_words_and_codes(
    sizing: Sizing, words: tuple[str, ...], code: int, says: str
) -> None:
    said = await sizing(*words)
    assert said.code == code
    assert says in said.err
    assert "Traceback" not in said.err


async def test_health_and_doctor(sizing: Sizing, tmp_path: Path) -> None:
    assert (await sizing("health")).out.startswith("SERVING")
    assert (await sizing("health", "--address", "127.0.0.1:1")).code == 1
    found = (await sizing("doctor", "--json")).json
    assert "SIZING_DSN" in found["settings"]
    assert {check["name"]: check["ok"] for check in found["checks"]}["service"] is True


async def test_a_matrix_from_a_file_is_an_edge(sizing: Sizing, tmp_path: Path) -> None:
    await book(sizing, "scenarios")
    await sizing("portfolio", "limits", "scenarios", "--set", str(EXAMPLES / "limits.toml"))
    file = tmp_path / "lottery.csv"
    file.write_text("\n".join(["KO,XOM", *["1,0.1"] * 9, "-0.9,-0.2"]))
    stored = ("market", "matrix", str(file), "--kind", "scenarios", "--id", "cli-lottery")
    for _ in range(2):  # the same again is no error
        said = await sizing(*stored)
        assert said.out == "matrix cli-lottery: scenarios, 10 rows of 2 instruments\n"
    mine = tmp_path / "mine.csv"
    mine.write_text("instrument_id,side\nKO,long\n")
    size = ("size", str(mine), "--portfolio", "scenarios", "--snapshot", "cli-close")
    sized = await sizing(*size, "--validate-only", "--scenarios", "cli-lottery", "--json")
    raw = sized.json["waterfall"]["stages"][0]["weight"][0]
    assert abs(raw - 0.9) < 1e-9  # 0.9 / (1 + f) = 0.1 * 0.9 / (1 - 0.9 f)
    refused = await sizing(*size, "--covariance", "cli-lottery", "--method", "joint")
    assert refused.code == 1
    assert "covariance_matrix_id: is a matrix of kind SCENARIOS" in refused.err
    assert (await sizing(*stored[:4], "nothing", "--id", "x")).code == 2


async def test_shared_limits_leave_the_others_as_they_are(sizing: Sizing, tmp_path: Path) -> None:
    for name, text in (("own", "weight_max = 0.03"), ("shared", "gross_notional_max = 1000.0")):
        (tmp_path / f"{name}.toml").write_text(text)
    limits = ("portfolio", "limits", "--group", "cli-group", "--json")
    await sizing(*limits, "--set", str(tmp_path / "own.toml"))
    both = (await sizing(*limits, "--set-shared", str(tmp_path / "shared.toml"))).json
    assert (both["limits"], both["shared"]) == (
        {"weight_max": 0.03},
        {"gross_notional_max": 1000.0},
    )
    (tmp_path / "own.toml").write_text("weight_max = 0.02")
    again = (await sizing(*limits, "--set", str(tmp_path / "own.toml"))).json
    assert (again["limits"]["weight_max"], again["shared"]) == (0.02, both["shared"])


async def test_what_the_service_refuses_is_named_by_its_line_too(
    sizing: Sizing, tmp_path: Path
) -> None:
    await book(sizing, "twice")
    await sizing("portfolio", "limits", "twice", "--set", str(EXAMPLES / "limits.toml"))
    file = tmp_path / "mine.csv"
    file.write_text("instrument_id,side,win_probability,payoff\nKO,long,0.6,1\nKO,long,0.6,1\n")
    refused = await sizing("size", str(file), "--portfolio", "twice")
    assert refused.code == 1
    assert "mine.csv line 3" in refused.err


async def test_a_recorded_decision_is_varied_by_itself(sizing: Sizing, tmp_path: Path) -> None:
    await book(sizing, "past")
    await sizing("portfolio", "limits", "past", "--set", str(EXAMPLES / "limits.toml"))
    await sizing("size", str(EXAMPLES / "signals.csv"), "--portfolio", "past",
                 "--snapshot", "cli-close")  # fmt: skip
    found = (await sizing("decisions", "--portfolio", "past", "--json")).json["decisions"]
    mine = ("whatif-decision", found[0]["decision_id"])
    looser = tmp_path / "looser.toml"
    looser.write_text("weight_max = 0.3\n")
    said = await sizing(*mine, "--instead", str(looser), "--without", "leverage_max", "--lines")
    assert said.code == 0, said.err
    assert "as recorded" in said.out
    answer = (await sizing(*mine, "--edge", "0.5", "--shock", "XOM=0.7", "--json")).json
    assert [item["name"] for item in answer["results"]] == ["edge x 0.5", "shocks"]
    assert answer["recorded"]["decision_id"] == found[0]["decision_id"]
    again = (await sizing("decisions", "--portfolio", "past", "--json")).json["decisions"]
    assert len(again) == len(found)
    assert (await sizing(*mine)).code == 2
    wrong = await sizing(*mine, "--without", "wait_max")
    assert wrong.code == 1
    assert "limits_lifted[0]" in wrong.err


async def test_what_if_shows_what_each_variation_changes(sizing: Sizing, tmp_path: Path) -> None:
    await book(sizing, "whatif")
    await sizing("portfolio", "limits", "whatif", "--set", str(EXAMPLES / "limits.toml"))
    mine = ("whatif", str(EXAMPLES / "signals.csv"), "--portfolio", "whatif")
    words = (*mine, "--snapshot", "cli-close", "--edge", "0.5", "--edge", "0", "--kelly", "0.1")
    said = await sizing(*words, "--lines")
    assert said.code == 0, said.err
    assert "edge x 0.5" in said.out
    assert "Kelly fraction 0.1" in said.out
    answer = (await sizing(*words, "--json")).json
    gross = [item["summary"].get("gross_weight_after", 0.0) for item in answer["results"]]
    assert gross[1] == 0.0 < gross[0] <= answer["base"]["summary"]["gross_weight_after"]
    file = tmp_path / "crash.toml"
    file.write_text('[[variations]]\nname = "[red]crash"\nprice_multiplier = 0.9\n')
    named = await sizing(*words[:4], "--snapshot", "cli-close", "--variations", str(file))
    assert "[red]crash" in named.out
    shocked = await sizing(*words[:4], "--snapshot", "cli-close", "--shock", "XOM=0.7", "--lines")
    assert "shocks" in shocked.out
    assert (await sizing(*words[:4], "--shock", "XOM")).code == 2
    wrong = await sizing(*words[:4], "--snapshot", "cli-close", "--shock", "NONE=0.7")
    assert wrong.code == 1
    assert "NONE" in wrong.err
    assert (await sizing(*words[:4])).code == 2


async def test_names_are_data_in_every_table(sizing: Sizing) -> None:
    name = "[/] [bold]x[/bold] \u202e :smile:"
    assert (await sizing("portfolio", "create", "odd-name", "--name", name)).code == 0
    listed = await sizing("portfolio", "list")
    assert listed.code == 0
    assert r"[/] [bold]x[/bold] \u202e :smile:" in listed.out
    assert r"\u202e" in (await sizing("portfolio", "show", "odd-name")).out


async def test_state_and_snapshots_and_matrices_are_shown(sizing: Sizing, tmp_path: Path) -> None:
    await book(sizing, "shown")
    await sizing("portfolio", "halt", "shown", "--reason", "a [test]")
    state = await sizing("state", "shown")
    assert "portfolio shown" in state.out
    assert "together: halted" in state.out
    await sizing("portfolio", "resume", "shown")
    assert "together: active" in (await sizing("state", "shown")).out
    snapshot = await sizing("market", "show", "cli-close")
    assert "125.674" in snapshot.out
    prices = str(EXAMPLES / "prices.csv")
    for kind, estimator in (("covariance", "ledoit-wolf"), ("scenarios", "ewma")):
        made = await sizing(
            *("market", "matrix", "--prices", prices, "--kind", kind, "--last", "60"),
            *("--estimator", estimator, "--id", f"cli-{kind}"),
        )
        assert made.code == 0, made.err
        assert f"{kind}, {20 if kind == 'covariance' else 60} rows of 20" in made.out
        assert "AAPL" in (await sizing("market", "show-matrix", f"cli-{kind}")).out
    few = await sizing(
        *("market", "matrix", "--prices", prices, "--kind", "covariance", "--last", "9999"),
        *("--id", "cli-x"),
    )
    assert "fewer than --last 9999" in few.err


@pytest.mark.parametrize("width", [80, 100])
async def test_every_table_fits_its_terminal(
    sizing: Sizing, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    name = f"narrow-{width}"
    await book(sizing, name)
    await sizing("portfolio", "limits", name, "--set", str(EXAMPLES / "limits.toml"))
    monkeypatch.setenv("COLUMNS", str(width))
    sized = await sizing(*signals(name))
    found = (await sizing("decisions", "--portfolio", name, "--json")).json["decisions"][0]
    decision_id = found["decision_id"]
    mine = ("whatif", str(EXAMPLES / "signals.csv"), "--portfolio", name, "--edge", "0.5")
    said = [
        sized,
        *[
            await sizing(*words)
            for words in (
                ("decisions", "--portfolio", name),
                ("explain", decision_id),
                ("explain", decision_id, "--top", "2"),
                ("portfolio", "list"),
                ("portfolio", "show", name),
                ("portfolio", "reservations", name),
                ("parameters", "history"),
                ("market", "list"),
                ("market", "show", "cli-close"),
                (*mine, "--snapshot", "cli-close", "--lines"),
                ("state", name),
                ("doctor",),
            )
        ],
    ]
    for item in said:
        assert item.code == 0, item.err
        too_long = [line for line in item.out.splitlines() if len(line) > width]
        assert not too_long
    whole = {item.out.count(decision_id) for item in (said[0], said[1], said[2], said[6])}
    assert 0 not in whole


async def test_a_portfolio_is_renamed_and_closed(sizing: Sizing) -> None:
    await sizing("portfolio", "create", "ending", "--cash", "1000")
    assert "Last days" in (await sizing("portfolio", "rename", "ending", "Last days")).out
    assert "closed" in (await sizing("portfolio", "close", "ending", "--reason", "done")).out
    assert "ending" not in (await sizing("portfolio", "list")).out
    assert "Last days" in (await sizing("portfolio", "list", "--closed")).out
    await book(sizing, "not-ending")
    refused = await sizing("portfolio", "close", "not-ending")
    assert refused.code == 1
    assert "try:   trade what is held" in refused.err
