"""Commands on the risk of books: reports, stress scenarios, backtests."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json
from server.cli.market import parse_time

if TYPE_CHECKING:
    from positionsizing.v1 import risk_service_pb2 as pb

risk = typer.Typer(no_args_is_help=True, help="What a book may lose, and stress scenarios.")

Universe = Annotated[str, typer.Option("--universe", help="Universe of the history.")]
Portfolio = Annotated[str, typer.Option("--portfolio", help="A stored portfolio.")]
Level = Annotated[float, typer.Option(help="Confidence of VaR and ES.")]
Gaps = Annotated[bool, typer.Option("--complete", help="Leave out periods with gaps.")]


@risk.command()
def report(
    universe: Universe,
    portfolio: Portfolio = "",
    book: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, help="CSV of instrument_id,weight."),
    ] = None,
    level: Level = 0.99,
    participation: Annotated[
        float | None,
        typer.Option(help="Risk of leaving the book, selling this part of each day's volume."),
    ] = None,
    tail_fraction: Annotated[
        float | None, typer.Option(help="Share of the losses the extreme value tail is fitted to.")
    ] = None,
    degrees: Annotated[
        float | None,
        typer.Option(help="Degrees of freedom of the Student t; default: by kurtosis."),
    ] = None,
    aversion: Annotated[
        float | None, typer.Option(help="Of the spectral risk measure; default: 20.")
    ] = None,
    snapshot: Annotated[
        str, typer.Option(help="Id of the market snapshot that values it; default: the latest.")
    ] = "",
    as_of: Annotated[str, typer.Option(help="Last observation, ISO 8601; default: all.")] = "",
    complete: Gaps = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Risk of a stored portfolio, and of a proposed book beside it."""
    from positionsizing.v1 import history_service_pb2
    from positionsizing.v1 import risk_service_pb2 as pb

    from server.cli.files import read_weights

    request = pb.ReportRiskRequest(
        universe_id=universe,
        portfolio_id=portfolio,
        level=level,
        market_snapshot_id=snapshot,
    )
    for name, value in (
        ("participation_rate", participation),
        ("tail_fraction", tail_fraction),
        ("student_degrees", degrees),
        ("spectral_aversion", aversion),
    ):
        if value is not None:
            setattr(request, name, value)
    if book is not None:
        request.proposed.CopyFrom(read_weights(book))
    if as_of:
        request.as_of_time.FromDatetime(parse_time(as_of, "--as-of"))
    if complete:
        request.gap_policy = history_service_pb2.GAP_POLICY_COMPLETE
    with connect(address) as client:
        answer = client.risk.ReportRisk(request)
    if as_json:
        print_json(answer)
        return
    _print_measures(answer)
    _print_lines(answer)
    _print_stress(answer)


def _columns(answer: "pb.ReportRiskResponse") -> list[tuple[str, "pb.BookRisk"]]:
    names = ("before", "after")
    return [(name, getattr(answer, name)) for name in names if answer.HasField(name)]  # type: ignore[arg-type]


def _print_measures(answer: "pb.ReportRiskResponse") -> None:
    from positionsizing.v1 import risk_service_pb2 as pb

    from server.cli.labels import enum_words, percent
    from server.cli.render import table

    books = _columns(answer)
    title = f"Risk over one period, {answer.level:g} confidence, {answer.period_count} periods"
    out = table(title, "measure", *(name for name, _ in books), left=("measure",))
    out.add_row("volatility", *(percent(book.volatility) for _, book in books))
    for method in pb.TailMethod.values()[1:]:
        cells = []
        for _, book in books:
            row = next((item for item in book.tails if item.method == method), None)
            known = row is not None and not row.refused
            cells.append(
                f"{percent(row.value_at_risk)} / {percent(row.expected_shortfall)}"
                if row is not None and known
                else "refused"
            )
        words = enum_words(pb.TailMethod, method, "TAIL_METHOD_")
        out.add_row(f"VaR / ES {words}", *cells)
    for name in (
        *("entropic_value_at_risk", "entropic_value_at_risk_normal", "spectral_risk"),
        *("max_drawdown", "conditional_drawdown", "worst_case_loss"),
    ):
        out.add_row(name.replace("_", " "), *(percent(getattr(book, name)) for _, book in books))
    for name in (
        "diversification_ratio",
        "effective_bets_variance",
        "effective_bets_principal",
        "effective_bets_torsion",
    ):
        cells = [
            f"{getattr(book, name):.2f}" if book.HasField(name) else "-"  # type: ignore[arg-type]
            for _, book in books
        ]
        out.add_row(name.replace("_", " "), *cells)
    for words, name in (("days to leave", "days"), ("VaR until left", "value_at_risk")):
        if all(book.HasField("liquidation") for _, book in books):
            found = [getattr(book.liquidation, name) for _, book in books]
            shown = [percent(v) if name != "days" else str(max(v, default=0)) for v in found]
            out.add_row(words, *shown)
    console().print(out)
    if answer.HasField("effective_rank"):
        count = len(answer.instrument_ids)
        typer.echo(
            f"the {count} instruments are worth {answer.effective_rank:.1f} independent ones"
        )
    for name, book in books:
        for row in book.tails:
            if row.refused:
                words = enum_words(pb.TailMethod, row.method, "TAIL_METHOD_")
                typer.echo(f"{name}: {words} refused: {row.refused}")


def _print_lines(answer: "pb.ReportRiskResponse") -> None:
    from server.cli.labels import percent
    from server.cli.render import table

    name, book = _columns(answer)[-1]
    out = table(
        f"Contributions, {name}", "instrument", "weight", "of normal ES", "of historical ES"
    )
    columns = (book.weights, book.component_normal, book.component_historical)
    for instrument, *values in zip(answer.instrument_ids, *columns, strict=True):
        out.add_row(instrument, *(percent(value) for value in values))
    console().print(out)


def _print_stress(answer: "pb.ReportRiskResponse") -> None:
    from server.cli.labels import percent
    from server.cli.render import table

    if not answer.stress_losses:
        return
    names = [name for name, _ in _columns(answer)]
    out = table("Stress losses", "scenario", *names, left=("scenario",))
    for row in answer.stress_losses:
        cells = [percent(getattr(row, f"loss_{name}")) for name in names]
        out.add_row(row.scenario_id, *(["refused"] * len(names) if row.refused else cells))
    console().print(out)


@risk.command()
def stress(
    scenario: Annotated[str, typer.Argument(help="Id of the scenario.")],
    shock: Annotated[
        list[str] | None, typer.Option("--shock", help="INSTRUMENT=RETURN, e.g. XOM=-0.2.")
    ] = None,
    spread: Annotated[
        bool, typer.Option("--spread", help="Others move as the covariance says.")
    ] = False,
    window: Annotated[str, typer.Option(help="START..END, ISO 8601, with --universe.")] = "",
    universe: Annotated[str, typer.Option("--universe", help="Of the window.")] = "",
    about: Annotated[str, typer.Option(help="What it is.")] = "",
    retire: Annotated[bool, typer.Option("--retire", help="Take it out of reports.")] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Stores a stress scenario: named shocks, or what happened in a stretch of a history."""
    from positionsizing.v1 import risk_service_pb2 as pb

    message = pb.StressScenario(scenario_id=scenario, description=about, retired=retire)
    for item in shock or ():
        name, _, value = item.rpartition("=")
        try:
            message.shock.returns.append(float(value))
        except ValueError:
            raise typer.BadParameter(f"{item!r} is not NAME=RETURN", param_hint="--shock") from None
        message.shock.instrument_ids.append(name)
    if spread:
        message.shock.spread_by_covariance = True
    if window:
        start, _, end = window.partition("..")
        message.window.universe_id = universe
        message.window.start_time.FromDatetime(parse_time(start, "--window"))
        message.window.end_time.FromDatetime(parse_time(end, "--window"))
    with connect(address) as client:
        answer = client.risk.PutStressScenario(pb.PutStressScenarioRequest(scenario=message))
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"stress scenario {answer.scenario_id}, version {answer.version}")


@risk.command()
def backtest(
    book: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="CSV of instrument_id,weight.")
    ],
    universe: Universe,
    method: Annotated[
        str,
        typer.Option(
            help="normal, student, cornish-fisher, historical, filtered-historical, extreme-value."
        ),
    ] = "filtered-historical",
    level: Level = 0.975,
    window: Annotated[int, typer.Option(help="Periods each forecast looks back on.")] = 250,
    null_degrees: Annotated[
        float | None,
        typer.Option(
            help="Losses are Student t of these degrees where p is told; default: normal."
        ),
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Tests VaR and ES of a fixed book, each day forecast from the days before it."""
    from positionsizing.v1 import risk_service_pb2 as pb

    from server.cli.files import read_weights

    name = f"TAIL_METHOD_{method.upper().replace('-', '_')}"
    if name not in pb.TailMethod.keys():  # noqa: SIM118
        raise typer.BadParameter("is no method; see --help", param_hint="--method")
    request = pb.BacktestRiskRequest(level=level)
    request.rolling.book.CopyFrom(read_weights(book))
    request.rolling.universe_id, request.rolling.window = universe, window
    request.rolling.method = pb.TailMethod.Value(name)
    if null_degrees is not None:
        request.null_degrees = null_degrees
    with connect(address) as client:
        answer = client.risk.BacktestRisk(request)
    if as_json:
        print_json(answer)
        return
    expected = f"{answer.exceedances_expected:.1f} expected"
    typer.echo(
        f"{answer.period_count} periods, {answer.exceedance_count} losses above VaR ({expected}), "
        f"Basel zone {answer.zone.lower()}"
    )
    for label, found in (
        ("coverage (Kupiec)", answer.coverage),
        ("independence (Christoffersen)", answer.independence),
        ("both", answer.conditional_coverage),
    ):
        typer.echo(f"{label}: LR {found.statistic:.3f}, p {found.p_value:.4f}")
    if answer.HasField("shortfall_z2"):
        typer.echo(
            f"expected shortfall: Z2 {answer.shortfall_z2:.3f}, p {answer.shortfall_p_value:.4f}, "
            f"e-value {answer.e_value:.3f}"
        )
