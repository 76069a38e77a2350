"""F12: recorded lines grouped by stage and strategy.

    .venv/bin/python -m benchmarks.archive [--lines 10000000] [--out benchmarks/results/archive.md]

Writes an archive of so many lines with the writer of `sizing archive` (50 lines a decision, 20
strategies, 250 days; of the 24 stages the fraction, a limit, cash and lots change most lines and
the others few or none, as in recorded books), then asks it what `sizing report` asks. Each question
is asked three times; the first reads the files from disk or the page cache, whatever it finds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars

from server.maintenance.archive import CHANGES, NUMBERS, line_types
from storage.archive import files, report, sums

LINES_A_DECISION, STRATEGIES, DAYS = 50, 20, 250
ACTS = {"raw_kelly": 1.0, "kelly_fraction": 1.0, "confidence": 0.6, "instrument_limit": 0.3}
ACTS |= {"group_limit": 0.1, "cash": 0.5, "lots": 1.0}
"""Share of the lines that a stage changes; of all others 1 %."""


def write(root: Path, lines: int) -> None:
    """An archive of so many lines."""
    rng, per_day = np.random.default_rng(0), lines // DAYS
    for number in range(DAYS):
        day = date(2026, 1, 1) + timedelta(days=number)
        writer = files.DayWriter(root, files.LINES, "default", day)
        writer.add(_day(rng, day, per_day), line_types())
        totals = files.DayWriter(root, files.SUMS, "default", day)
        sums.write(writer, totals, line_types())
        totals.finish()
        writer.finish()


def _day(rng: np.random.Generator, day: date, n: int) -> dict[str, object]:
    decision = np.arange(n) // LINES_A_DECISION
    strategy = rng.integers(0, STRATEGIES, decision[-1] + 1)[decision]
    weight = rng.uniform(0.0, 0.1, n)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    columns: dict[str, object] = {
        "decision_id": [f"{day}-{k:08}" for k in decision],
        "portfolio_id": [f"portfolio-{k % 100}" for k in decision],
        "strategy_id": [f"strategy-{k}" for k in strategy],
        "create_time": [noon] * n,
        "status": ["CAPPED"] * n,
        "method": ["CLOSED_FORM"] * n,
        "instrument_id": [f"INS{k:06}" for k in rng.integers(0, 5000, n)],
        "line_status": ["SIZED"] * n,
        "binding": np.array(["NONE", "WEIGHT", "CASH"])[rng.integers(0, 3, n)],
        "binding_group": [""] * n,
        "lots": rng.integers(0, 1000, n),
        "trade_lots": rng.integers(-100, 100, n),
    }
    columns |= {name: rng.uniform(0.0, 1.0, n) for name in NUMBERS}
    for name in CHANGES:
        share = ACTS.get(name.removeprefix("change_"), 0.01)
        acts = rng.random(n) < share
        columns[name] = polars.Series(np.where(acts, -0.1 * weight, np.nan)).fill_nan(None)
    return columns


def seconds(ask: Callable[[], object]) -> list[float]:
    """Elapsed of three times, and processor time of the last."""
    taken, spent = [], 0.0
    for _ in range(3):
        began, before = time.perf_counter(), time.process_time()
        ask()
        taken.append(time.perf_counter() - began)
        spent = time.process_time() - before
    return [*taken, spent]


def main() -> None:
    """Runs the benchmark and writes its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/archive.md"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        began = time.perf_counter()
        write(root, arguments.lines)
        wrote = time.perf_counter() - began
        size = sum(path.stat().st_size for path in files.parts(root, files.LINES))
        month = report.Period(date(2026, 3, 1), date(2026, 3, 31))
        rows = [
            ("strategy, stage", seconds(lambda: report.by_stage(root, ["strategy"]))),
            ("the same of a month", seconds(lambda: report.by_stage(root, ["strategy"], month))),
            (
                "strategy, binding",
                seconds(lambda: report.by_dimensions(root, ["strategy", "binding"])),
            ),
        ]
    text = [f"{arguments.lines:,} lines, {size / 2**20:,.0f} MiB, written in {wrote:.0f} s", ""]
    text += ["| grouped by | first, s | second | third | processor time |", "|---|---|---|---|---|"]
    text += [f"| {name} | {' | '.join(f'{t:.2f}' for t in taken)} |" for name, taken in rows]
    print("\n".join(text))
    arguments.out.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
