"""`sizing size`: signals in a file, sizes in a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    connect,
    console,
    print_json,
)
from server.cli.market import TIME, parse_time
from server.cli.prices import (
    HALF_LIFE,
    EstimatorName,
    HalfLife,
    Last,
    MatrixFrom,
    PricesFile,
    matrix_of,
    stored,
)

if TYPE_CHECKING:
    from positionsizing.v1 import market_service_pb2, sizing_pb2, sizing_service_pb2

    from server.client import Client

SignalsFile = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, help="CSV, CSV.gz, Parquet or JSON.")
]
OfPortfolio = Annotated[str, typer.Option("--portfolio", help="Portfolio to size for.")]
OfStrategy = Annotated[str, typer.Option("--strategy", help="Strategy of the signals.")]
Method = Annotated[
    str, typer.Option(help="Way to size, such as closed-form or joint; default: as stored.")
]
MoreLimits = Annotated[
    Path | None,
    typer.Option(
        "--limits", exists=True, dir_okay=False, help="Further limits, TOML or JSON; only tighten."
    ),
]
Snapshot = Annotated[str, typer.Option(help="Market snapshot; default: the latest.")]
Scenarios = Annotated[str, typer.Option(help="Scenario matrix, by id.")]
Covariance = Annotated[str, typer.Option(help="Covariance matrix, by id.")]


def size(
    file: SignalsFile,
    portfolio: OfPortfolio = "",
    strategy: OfStrategy = "",
    method: Method = "",
    limits: MoreLimits = None,
    snapshot: Snapshot = "",
    scenarios: Scenarios = "",
    covariance: Covariance = "",
    prices: PricesFile = None,
    kind: MatrixFrom = "scenarios",
    last: Last = 0,
    estimator: EstimatorName = "sample",
    half_life: HalfLife = HALF_LIFE,
    model: Annotated[str, typer.Option(help="Live model of edges from features.")] = "",
    history: Annotated[
        str, typer.Option(help="Stored history that lines without an edge are estimated from.")
    ] = "",
    regimes: Annotated[str, typer.Option(help="Volatility model of the lines by regime.")] = "",
    regimes_of: Annotated[
        str, typer.Option(help="Instrument whose regimes count; default: each its own.")
    ] = "",
    as_of: Annotated[str, typer.Option(help=f"When edges and features were true, {TIME}.")] = "",
    request_id: Annotated[str, typer.Option(help="UUID kept for retries; default: new.")] = "",
    validate_only: Annotated[bool, typer.Option("--validate-only", help="Record nothing.")] = False,
    all_or_nothing: Annotated[
        bool, typer.Option("--all-or-nothing", help="Refuse all if one line is wrong.")
    ] = False,
    algorithm: Annotated[str, typer.Option(help="Custom algorithm; implies its method.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Sizes a file of signals and shows the table of sizes."""
    import uuid

    from positionsizing.v1 import sizing_pb2, types_pb2

    from server.cli import files

    request = request_of(file, portfolio, strategy, method, limits, snapshot, scenarios, covariance)
    if algorithm:
        request.method = types_pb2.SIZING_METHOD_CUSTOM
        request.algorithm.name = algorithm
    request.request_id = request_id or request.request_id or str(uuid.uuid4())
    edges = request.signals
    edges.model_id = model or edges.model_id
    edges.regime_model_id = regimes or edges.regime_model_id
    edges.regime_instrument_id = regimes_of or edges.regime_instrument_id
    if history:
        edges.history_universe_id = history
        _fill_sources(edges, sizing_pb2.EDGE_SOURCE_STORED_HISTORY)
    if as_of:
        request.signals.as_of_time.FromDatetime(parse_time(as_of, "--as-of"))
    request.validate_only |= validate_only
    request.all_or_nothing |= all_or_nothing
    matrix = matrix_of(prices, kind, last, estimator, half_life) if prices else None
    with connect(address) as client, files.naming_lines(file):
        if matrix is not None:
            use_matrix(client, request, matrix)
        decision = client.sizing.SizePositions(request).decision
    if as_json:
        print_json(decision)
    else:
        show(decision, file)


def request_of(
    file: Path,
    portfolio: str,
    strategy: str,
    method: str,
    limits: Path | None,
    snapshot: str,
    scenarios: str,
    covariance: str,
) -> "sizing_service_pb2.SizePositionsRequest":
    """The request that a file and the options say; an option wins over the file."""
    from positionsizing.v1 import sizing_pb2, types_pb2
    from positionsizing.v1.limits_pb2 import Limits

    from server.cli import files
    from server.cli.labels import METHODS

    if method and method not in METHODS:
        raise typer.BadParameter(f"must be one of {', '.join(METHODS)}", param_hint="--method")
    request = files.read_request(file)
    request.portfolio_id = portfolio or request.portfolio_id
    if not request.portfolio_id:
        raise typer.BadParameter("must be given", param_hint="--portfolio")
    request.strategy_id = strategy or request.strategy_id
    request.market_snapshot_id = snapshot or request.market_snapshot_id
    request.scenario_matrix_id = scenarios or request.scenario_matrix_id
    request.covariance_matrix_id = covariance or request.covariance_matrix_id
    if method:
        request.method = types_pb2.SizingMethod.ValueType(METHODS[method])
    if limits:
        request.limits.CopyFrom(files.read_message(limits, Limits()))
    if scenarios:
        _fill_sources(request.signals, sizing_pb2.EDGE_SOURCE_SCENARIOS)
    return request


def use_matrix(
    client: "Client",
    request: "sizing_service_pb2.SizePositionsRequest",
    matrix: "market_service_pb2.Matrix",
) -> None:
    """Stores a matrix made from prices and names it in the request."""
    from positionsizing.v1 import market_service_pb2, sizing_pb2

    made_id = stored(client, matrix)
    if matrix.kind == market_service_pb2.MATRIX_KIND_SCENARIOS:
        request.scenario_matrix_id = made_id
        _fill_sources(request.signals, sizing_pb2.EDGE_SOURCE_SCENARIOS)
    else:
        request.covariance_matrix_id = made_id


def _fill_sources(
    signals: "sizing_pb2.SignalBatch", source: "sizing_pb2.EdgeSource.ValueType"
) -> None:
    """Lines that say no edge of their own take it from there."""
    for line, given in enumerate(signals.edge_source):
        if not given:
            signals.edge_source[line] = source


def show(decision: "sizing_pb2.SizingDecision", file: Path | None = None) -> None:
    """Prints sizes, refused lines and the summary."""
    from server.cli import files, render

    out = console()
    out.print(render.sizes_table(decision))
    out.print()
    for error in decision.line_errors:
        where = f"{files.place_of(file, error.line)}, " if file else ""
        out.print(f"refused: {where}{error.field}: {error.message}", style="red")
    for line in render.summary_lines(decision):
        out.print(line)
