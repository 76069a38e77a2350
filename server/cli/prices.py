"""Matrices made from a file of prices: the options `--prices`, `--last`, `--estimator`, `--kind`.

A file of prices has a row a period, oldest first, and a column an instrument; a column `date` names
the rows. Its numbers become scenarios or a covariance of simple returns from row to row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.errors import CommandError

if TYPE_CHECKING:
    import numpy as np
    from positionsizing.v1 import market_service_pb2

    from server.cli.sheet import Sheet
    from server.client import Client

PricesFile = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        exists=True,
        dir_okay=False,
        help="Prices, oldest first: CSV, CSV.gz or Parquet. Their returns make the matrix.",
    ),
]
Last = Annotated[int, typer.Option(min=0, help="Only the last N returns; 0: all.")]
EstimatorName = Annotated[
    str,
    typer.Option(
        help="sample: every return counts alike; ewma: newer ones more (--half-life). Covariance "
        "also: ledoit-wolf, ledoit-wolf-nonlinear, denoised, principal-factors, dcc, stress."
    ),
]
HalfLife = Annotated[
    float, typer.Option(min=0.1, help="EWMA: returns that old count half, in periods.")
]
MatrixFrom = Annotated[
    str, typer.Option("--kind", help="What prices become: scenarios or covariance.")
]
ESTIMATORS = (
    "sample",
    "ewma",
    "ledoit-wolf",
    "ledoit-wolf-nonlinear",
    "denoised",
    "principal-factors",
    "dcc",
    "stress",
)
HALF_LIFE = 60.0


@dataclass(frozen=True)
class Returns:
    """Simple returns: a row a period, a column an instrument."""

    instrument_ids: tuple[str, ...]
    values: "np.ndarray"


def matrix_of(
    path: Path, kind: str, last: int = 0, estimator: str = "sample", half_life: float = HALF_LIFE
) -> "market_service_pb2.Matrix":
    """A matrix without id and time, of the returns in a file of prices.

    Scenarios are the returns themselves, with probabilities where newer ones count more.
    """
    from positionsizing.v1 import market_service_pb2 as pb

    if estimator not in ESTIMATORS:
        text = f"must be one of {', '.join(ESTIMATORS)}"
        raise typer.BadParameter(text, param_hint="--estimator")
    if kind not in ("scenarios", "covariance"):
        text = "must be scenarios or covariance where it is made from prices"
        raise typer.BadParameter(text, param_hint="--kind")
    returns = read_returns(path, last)
    matrix = pb.Matrix(kind=pb.MatrixKind.Value(f"MATRIX_KIND_{kind.upper()}"))
    matrix.instrument_ids.extend(returns.instrument_ids)
    decay = 2.0 ** (-1.0 / half_life)
    if kind == "scenarios":
        if estimator not in ("sample", "ewma"):
            text = "must be sample or ewma for scenarios, which are the returns themselves"
            raise typer.BadParameter(text, param_hint="--estimator")
        matrix.dense.values.extend(returns.values.ravel().tolist())
        if estimator == "ewma":
            from compute.correlation.sample import ewma_weights

            matrix.scenario_probability.extend(ewma_weights(len(returns.values), decay).tolist())
        return matrix
    if len(returns.values) < 2:
        raise CommandError(f"{path} has {len(returns.values)} returns; a covariance takes 2")
    from compute.correlation.estimate import Estimator, Settings, estimate

    wanted = Estimator[estimator.replace("-", "_").upper()]
    try:
        covariance = estimate(returns.values, wanted, Settings(decay=decay)).covariance
    except ValueError as error:
        raise CommandError(f"{path}: {error}", "other data, or another --estimator") from error
    matrix.dense.values.extend((0.5 * (covariance + covariance.T)).ravel().tolist())
    return matrix


def stored(client: "Client", matrix: "market_service_pb2.Matrix") -> str:
    """Stores a matrix under an id made from its content, which is returned.

    The same prices have the same id: storing them again is no error and no second copy.
    """
    import hashlib

    from positionsizing.v1 import market_service_pb2 as pb

    digest = hashlib.sha256(matrix.SerializeToString(deterministic=True)).hexdigest()
    kind = pb.MatrixKind.Name(matrix.kind).removeprefix("MATRIX_KIND_").lower()
    matrix.matrix_id = f"prices-{kind}-{digest[:16]}"
    client.market.PutMatrix(pb.PutMatrixRequest(matrix=matrix))
    return matrix.matrix_id


def read_returns(path: Path, last: int = 0) -> Returns:
    """Simple returns from row to row of a file of prices, the last `last` of them, 0: all."""
    import numpy as np

    from server.cli.sheet import read_sheet

    sheet = read_sheet(path, keep_case=True)
    names = tuple(name for name in sheet.columns if name.lower() not in ("date", "time"))
    if len(sheet.rows) < 2 or not names:
        raise CommandError(f"{path} has no two rows of prices", "see examples/prices.csv")
    _check_order(sheet)
    count = len(sheet.rows) - 1
    if last > count:
        raise CommandError(f"{path} has {count} returns, fewer than --last {last}")
    first = count - last if last else 0
    prices = np.array(
        [[_price(sheet, row, name) for name in names] for row in range(first, len(sheet.rows))]
    )
    return Returns(names, prices[1:] / prices[:-1] - 1.0)


def _price(sheet: "Sheet", row: int, name: str) -> float:
    price = sheet.number(row, name)
    if price <= 0.0:
        raise CommandError(f"{sheet.at(row)}: {name} is {price:g}, not a price")
    return price


def _check_order(sheet: "Sheet") -> None:
    """Dates rise: in a file that begins with the newest every return would be turned round."""
    column = next((name for name in sheet.columns if name.lower() in ("date", "time")), None)
    if column is None:
        return
    dates = sheet.texts(column)
    for row in range(1, len(dates)):
        if dates[row] <= dates[row - 1] and len(dates[row]) == len(dates[row - 1]):
            text = f"{sheet.at(row)}: {column} is {dates[row]}, after {dates[row - 1]}"
            raise CommandError(text, "sort the rows, oldest first, each date once (2022-12-28)")
