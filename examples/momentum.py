"""Signals and a market snapshot from daily closes, without look-ahead.

    python examples/momentum.py --as-of 2022-12-28 --out .

writes `signals.csv` and `market.csv` for `sizing size` and `sizing market load`. A signal knows
only the 252 returns that ended before the as-of date; the price it is sized at is the close of
that date. The rule is deliberately plain: it shows how to say an edge and how sure one is of it.

    side                   the sign of the mean daily return
    expected_return        its absolute value
    expected_return_error  the standard error of that mean, s / sqrt(252)
    volatility             daily, exponentially weighted, decay 0.97 a day, around zero
"""

import argparse
import csv
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
LOOKBACK_DAYS = 252
DECAY = 0.97
DAYS_PER_YEAR = 252


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column name."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, object]]) -> None:
    """Rows with equal keys as a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Writes both files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--as-of", default="2022-12-28", help="date of the snapshot")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    options = parser.parse_args()

    days = read(HERE / "prices.csv")
    dates = [day.pop("date") for day in days]
    if options.as_of not in dates[LOOKBACK_DAYS + 1 :]:
        parser.error(f"--as-of must be a trading day after {dates[LOOKBACK_DAYS]}, to {dates[-1]}")
    today = dates.index(options.as_of)
    close = np.array([[float(price) for price in day.values()] for day in days])
    known = close[today - 1 - LOOKBACK_DAYS : today]  # nothing of today or later
    returns = known[1:] / known[:-1] - 1.0
    mean = returns.mean(axis=0)
    error = returns.std(axis=0, ddof=1) / np.sqrt(LOOKBACK_DAYS)
    decay = DECAY ** np.arange(LOOKBACK_DAYS)[::-1]
    volatility = np.sqrt(decay @ returns**2 / decay.sum())

    signals: list[dict[str, object]] = []
    market: list[dict[str, object]] = []
    for row in read(HERE / "instruments.csv"):
        name = row["instrument_id"]
        column = list(days[0]).index(name)
        signals.append(
            {
                "instrument_id": name,
                "side": "long" if mean[column] > 0 else "short",
                "expected_return": f"{abs(mean[column]):.6f}",
                "volatility": f"{volatility[column]:.6f}",
                "expected_return_error": f"{error[column]:.6f}",
            }
        )
        market.append(
            {
                "instrument_id": name,
                "price": close[today, column],
                "volatility": f"{volatility[column] * np.sqrt(DAYS_PER_YEAR):.4f}",
                "average_daily_volume": row["average_daily_volume"],
                "lot_size": row["lot_size"],
                "sector": row["sector"],
            }
        )
    write(options.out / "signals.csv", signals)
    write(options.out / "market.csv", market)


if __name__ == "__main__":
    main()
