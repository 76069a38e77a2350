"""The command on good, bad and infeasible files: one line each, and it never stops early."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reference import main
from benchmarks.reference_format import load, load_all, parse
from benchmarks.synthetic import universe
from compute.optimize.problem import ObjectiveKind

REFERENCE = Path(__file__).parents[1] / "reference"


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.reference
def test_a_supplied_file_is_solved_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = REFERENCE / "P8_mv_utility_nocost_N20.npz"
    assert main([str(file), "--out", str(tmp_path), "--repeats", "1"]) == 0
    (line,) = _lines(capsys)
    assert line["status"] == "optimal"
    assert abs(float(str(line["relative_gap"]))) <= 1e-8
    assert float(str(line["largest_violation"])) <= 1e-9
    weights = np.load(tmp_path / f"{file.stem}.npy")
    expected = load(file).weights
    assert expected is not None
    np.testing.assert_allclose(weights, expected, atol=1e-5)


@pytest.mark.reference
def test_bad_files_do_not_stop_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a_broken.npz").write_bytes(b"not an archive")
    np.savez(tmp_path / "b_unknown.npz", problem="teleport", R=np.zeros((5, 2)))
    scenarios = np.random.default_rng(0).normal(0.001, 0.01, (60, 5))
    common = {"R": scenarios, "c_lo": np.zeros(5), "c_hi": np.full(5, 0.1), "gamma": 5.0}
    np.savez(tmp_path / "c_none.npz", problem="mv", c_smin=1.0, expect="infeasible", **common)
    missing = str(tmp_path / "missing.npz")
    assert main([str(tmp_path), missing, "--repeats", "1"]) == 1
    lines = _lines(capsys)
    assert [line["status"] for line in lines] == ["error", "error", "infeasible", "error"]
    assert "teleport" in str(lines[1]["error"])
    assert set(lines[2]["conflict"]) == {"upper", "budget_min"}  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sharpe", ObjectiveKind.MAX_SHARPE),
        ("P1_max_sharpe", ObjectiveKind.MAX_SHARPE),
        ("mvcost", ObjectiveKind.MEAN_VARIANCE),
        ("mv", ObjectiveKind.MEAN_VARIANCE),
        ("kelly", ObjectiveKind.LOG_GROWTH),
        ("rck_10_5", ObjectiveKind.LOG_GROWTH),
        ("cvar", ObjectiveKind.MIN_CVAR),
        ("erc", ObjectiveKind.RISK_BUDGET),
        ("cdar", ObjectiveKind.MIN_CDAR),
        ("mdd", ObjectiveKind.MIN_MAX_DRAWDOWN),
        ("P7_min_mdd", ObjectiveKind.MIN_MAX_DRAWDOWN),
        ("maxret_cdar", ObjectiveKind.MAX_RETURN),
    ],
)
def test_names(name: str, kind: ObjectiveKind) -> None:
    fields = {"problem": name, "R": np.ones((4, 2)) * 0.01, "L_cdar": 0.1, "lam": 3.0}
    problem = parse(Path("x.npz"), fields).problem
    assert problem.objective.kind is kind
    assert (problem.limits.drawdown_risk is not None) == name.startswith("rck")
    assert (problem.limits.cdar_max is not None) == (name == "maxret_cdar")
    assert (problem.costs.linear is not None) == (name == "mvcost")


def test_missing_fields_are_no_limits() -> None:
    plain = {"problem": "kelly", "R": np.ones((4, 2)) * 0.01}
    limits = parse(Path("x.npz"), plain).problem.limits
    assert limits.lower is limits.upper is limits.budget_max is limits.rows is None
    parity = parse(Path("x.npz"), {**plain, "problem": "erc"}).problem.limits
    assert parity.lower is not None
    assert parity.budget_min == parity.budget_max == 1.0


def test_every_constraint_is_read() -> None:
    fields = {
        "problem": "cvar",
        "R": np.ones((4, 3)) * 0.01,
        "c_lo": np.full(3, -0.1),
        "c_hi": 0.5,
        "c_smin": 0.2,
        "c_smax": 0.8,
        "c_sec": np.array([0, 1, 1]),
        "c_sechi": np.array([0.3, np.inf]),
        "c_seclo": np.array([-np.inf, 0.1]),
        "c_tau": 0.4,
        "c_gross": np.inf,
        "c_w0": np.full(3, 0.1),
        "beta": 0.9,
    }
    problem = parse(Path("x.npz"), fields).problem
    limits = problem.limits
    assert limits.upper is not None
    np.testing.assert_array_equal(limits.upper, [0.5, 0.5, 0.5])
    assert (limits.budget_min, limits.budget_max) == (0.2, 0.8)
    assert (limits.turnover_max, limits.gross_max) == (0.4, None)
    assert problem.objective.tail == 0.9
    assert limits.rows is not None
    np.testing.assert_array_equal(limits.rows.matrix, [[1, 0, 0], [0, 1, 1]])
    np.testing.assert_array_equal(limits.rows.row_max, [0.3, np.inf])
    np.testing.assert_array_equal(limits.rows.row_min, [-np.inf, 0.1])


def test_shared_returns_expand_to_every_problem(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "returns_N6.npz",
        returns=rng.normal(0.001, 0.01, (30, 6)),
        sector=np.arange(6) % 5,
        u=0.4,
        w0=np.full(6, 1 / 6),
        L_cdar=0.05,
    )
    (tmp_path / "N6_objectives.json").write_text('{"P1": [0.1, 0], "P7": [0.001, NaN]}')
    found = load_all(tmp_path / "returns_N6.npz")
    assert [reference.name for reference in found] == ["P1_N6", "P7_N6"]
    assert found[1].problem.limits.cdar_max == 0.05
    assert found[0].objective == 0.1


def test_the_synthetic_universe_is_reproducible() -> None:
    first, second = universe(12), universe(12)
    assert len(first) == 11
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.problem.scenarios, two.problem.scenarios)


def test_every_way_to_say_nothing_and_every_type() -> None:
    plain = {"problem": "mv", "R": np.array([[0.01, 0.02], [-0.01, 0.0], [0.0, 0.01]])}
    bounds = {"c_lo": [0.0, -0.5], "c_hi": [1.0, 0.5], "c_smax": 1.0, "c_sechi": [0.75, 0.5]}
    expected = parse(Path("x.npz"), {**plain, **bounds, "c_sec": [0, 1]}).problem.limits
    said = {
        "problem": np.array([b"mv "]),
        "R": plain["R"],
        "c_lo": np.array([0.0, -0.5], np.float32),
        "c_hi": np.array([1.0, 0.5], ">f8"),
        "c_smax": np.array([1], np.int32),
        "c_smin": np.array(np.nan),
        "c_sec": np.array([0.0, 1.0], np.float32),
        "c_seclo": np.full(2, np.nan),
        "c_sechi": np.array([0.75, 0.5], np.float32),
        "c_tau": np.array(np.inf),
        "c_gross": np.zeros(0),
        "c_w0": np.zeros(0),
    }
    limits = parse(Path("x.npz"), said).problem.limits
    assert limits.rows is not None
    assert expected.rows is not None
    np.testing.assert_array_equal(limits.rows.row_min, expected.rows.row_min)
    np.testing.assert_array_equal(limits.rows.row_max, expected.rows.row_max)
    np.testing.assert_array_equal(limits.lower, expected.lower)
    np.testing.assert_array_equal(limits.upper, expected.upper)
    assert (limits.budget_min, limits.budget_max) == (None, 1.0)
    assert limits.turnover_max is limits.gross_max is None


def test_bounds_that_are_nan_do_not_bound() -> None:
    fields = {"problem": "kelly", "R": np.ones((3, 2)), "c_lo": [np.nan, 0.0], "c_hi": np.nan}
    limits = parse(Path("x.npz"), fields).problem.limits
    np.testing.assert_array_equal(limits.lower, [-np.inf, 0.0])
    np.testing.assert_array_equal(limits.upper, [np.inf, np.inf])
