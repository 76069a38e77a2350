"""Commands on problems of a whole book: optimize, frontier. Nothing is stored."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    GuaranteePeriods,
    GuaranteeProbability,
    Report,
    Tables,
    connect,
    console,
    print_json,
)
from server.cli.errors import CommandError
from server.cli.page import Output
from server.cli.prices import (
    HALF_LIFE,
    EstimatorName,
    HalfLife,
    Last,
    MatrixFrom,
    PricesFile,
    matrix_of,
)

if TYPE_CHECKING:
    from positionsizing.v1 import market_service_pb2
    from positionsizing.v1 import optimization_service_pb2 as pb

ProblemFile = Annotated[
    Path,
    typer.Argument(exists=True, dir_okay=False, help="TOML or JSON of an OptimizationProblem."),
]
Scenarios = Annotated[str, typer.Option(help="Scenario matrix stored before, by id.")]
Covariance = Annotated[str, typer.Option(help="Covariance matrix stored before, by id.")]


def optimize(
    file: ProblemFile,
    prices: PricesFile = None,
    kind: MatrixFrom = "scenarios",
    last: Last = 0,
    estimator: EstimatorName = "sample",
    half_life: HalfLife = HALF_LIFE,
    scenarios: Scenarios = "",
    covariance: Covariance = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Optimises a book and proves it; exit code 1 where the limits conflict or nothing is found."""
    from positionsizing.v1 import optimization_service_pb2 as pb

    from server.cli import optimum

    matrix = matrix_of(prices, kind, last, estimator, half_life) if prices else None
    problem = _read(file, matrix, scenarios, covariance)
    with connect(address) as client:
        answer = client.optimization.OptimizePortfolio(pb.OptimizePortfolioRequest(problem=problem))
    if as_json:
        print_json(answer)
    else:
        out = console()
        if answer.weights:
            out.print(optimum.weights_table(problem, answer))
            out.print()
        if answer.certificate.shadow_prices:
            out.print(optimum.prices_table(answer))
            out.print()
        for line in optimum.outcome_lines(problem, answer):
            out.print(line)
    if not answer.weights:
        sys.exit(1)


def frontier(
    file: ProblemFile,
    prices: PricesFile = None,
    kind: MatrixFrom = "scenarios",
    last: Last = 0,
    estimator: EstimatorName = "sample",
    half_life: HalfLife = HALF_LIFE,
    scenarios: Scenarios = "",
    covariance: Covariance = "",
    points: Annotated[int, typer.Option(min=2, max=200, help="How many.")] = 20,
    guarantee_periods: GuaranteePeriods = None,
    guarantee_probability: GuaranteeProbability = None,
    report: Report = None,
    tables: Tables = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """The least risk for every return: points of the efficient frontier, drawn."""
    from positionsizing.v1 import optimization_service_pb2 as pb

    from server.cli import optimum

    matrix = matrix_of(prices, kind, last, estimator, half_life) if prices else None
    problem = _read(file, matrix, scenarios, covariance)
    request = pb.TraceFrontierRequest(problem=problem, point_count=points)
    if (guarantee_periods is None) != (guarantee_probability is None):
        raise CommandError("--guarantee-periods and --guarantee-probability go together")
    if guarantee_periods is not None:
        request.guarantee.periods = guarantee_periods
        request.guarantee.probability = guarantee_probability or 0.0
    with connect(address) as client:
        answer = client.optimization.TraceFrontier(request)
    output = Output(report, tables)
    if output:
        from server.cli.frontier_page import write_frontier

        write_frontier(output, answer)
    if as_json:
        print_json(answer)
        return
    out = console()
    out.print(optimum.frontier_table(problem, answer))
    for line in output.lines():
        out.print(line, markup=False)


def _read(
    file: Path, matrix: "market_service_pb2.Matrix | None", scenarios: str, covariance: str
) -> "pb.OptimizationProblem":
    """The problem of a file, with the data that the options name or make.

    Instruments that are left out are those of the prices. A column of one number means that number
    for every instrument.
    """
    from positionsizing.v1 import market_service_pb2
    from positionsizing.v1 import optimization_service_pb2 as pb

    from server.cli import files

    problem = files.read_message(file, pb.OptimizationProblem())
    problem.scenario_matrix_id = scenarios or problem.scenario_matrix_id
    problem.covariance_matrix_id = covariance or problem.covariance_matrix_id
    if matrix is not None:
        is_covariance = matrix.kind == market_service_pb2.MATRIX_KIND_COVARIANCE
        (problem.covariance if is_covariance else problem.scenarios).CopyFrom(matrix)
        if not problem.instrument_ids:
            problem.instrument_ids.extend(matrix.instrument_ids)
    if not problem.instrument_ids:
        hint = "add instrument_ids, or give --prices FILE.csv to take all of its columns"
        raise CommandError(f"{file} names no instruments", hint)
    for name in ("mean", "weight_min", "weight_max", "trade_max", "linear_cost", "impact_cost"):
        column = getattr(problem, name)
        if len(column) == 1:
            column.extend([column[0]] * (len(problem.instrument_ids) - 1))
    return problem
