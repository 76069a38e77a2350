"""`sizing whatif`: variations of one request, nothing recorded."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json
from server.cli.prices import (
    HALF_LIFE,
    EstimatorName,
    HalfLife,
    Last,
    MatrixFrom,
    PricesFile,
    matrix_of,
)
from server.cli.sizing import (
    Covariance,
    Method,
    MoreLimits,
    OfPortfolio,
    OfStrategy,
    Scenarios,
    SignalsFile,
    Snapshot,
    request_of,
    use_matrix,
)

if TYPE_CHECKING:
    from positionsizing.v1 import sizing_pb2, sizing_service_pb2

    from server.cli.layout import Table

Factor = list[float] | None


def factor(what: str) -> typer.models.OptionInfo:
    """An option that multiplies something, each time for a variation of its own."""
    return typer.Option(min=0.0, help=f"Multiplies {what}; repeat.")


def _shock(text: str) -> "sizing_service_pb2.InstrumentShock":
    """A price of one instrument multiplied, from "XOM=0.7"."""
    from positionsizing.v1 import sizing_service_pb2 as pb

    name, _, factor = text.rpartition("=")
    try:
        return pb.InstrumentShock(instrument_id=name, price_multiplier=float(factor))
    except ValueError:
        raise typer.BadParameter(f"--shock {text!r}: give ID=FACTOR, as in XOM=0.7") from None


def whatif(
    file: SignalsFile,
    portfolio: OfPortfolio = "",
    strategy: OfStrategy = "",
    edge: Annotated[Factor, factor("the edge of every signal")] = None,
    price: Annotated[Factor, factor("every price")] = None,
    equity: Annotated[Factor, factor("cash and holdings")] = None,
    volatility: Annotated[Factor, factor("the volatility of every signal")] = None,
    kelly: Annotated[Factor, typer.Option(help="Kelly fraction, in (0, 1]; repeat.")] = None,
    shock: Annotated[
        list[str] | None,
        typer.Option(metavar="ID=FACTOR", help="Multiplies one price; all of them together."),
    ] = None,
    with_limits: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Limits of a variation; repeat."),
    ] = None,
    with_parameters: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Parameters of a variation; repeat."),
    ] = None,
    variations: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="TOML or JSON: `variations` as in WhatIfRequest."
        ),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Weights of each instrument too.")] = False,
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
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Sizes variations of a request and shows what each would change; records nothing.

    Each option makes a variation by itself: --edge 0.5 --edge 0 --price 0.9 are three. A file of
    variations may change several things together, under a name.
    """
    from positionsizing.v1 import sizing_service_pb2 as pb

    from server.cli import files

    base = request_of(file, portfolio, strategy, method, limits, snapshot, scenarios, covariance)
    request = pb.WhatIfRequest()
    if variations:
        files.read_message(variations, request)
    request.base.CopyFrom(base)
    request.variations.extend(
        variations_of(
            {"edge": edge, "price": price, "equity": equity, "volatility": volatility},
            kelly,
            shock,
            with_limits,
            with_parameters,
        )
    )
    if not request.variations:
        raise typer.BadParameter("vary something: --edge, --price, --kelly, --variations FILE ...")
    matrix = matrix_of(prices, kind, last, estimator, half_life) if prices else None
    with connect(address) as client, files.naming_lines(file):
        if matrix is not None:
            use_matrix(client, request.base, matrix)
        answer = client.sizing.WhatIf(request)
    if as_json:
        print_json(answer)
        return
    show(answer.base, answer.results, "as it is", lines=lines)


def variations_of(
    factors: Mapping[str, Factor],
    kelly: Factor,
    shock: Sequence[str] | None,
    with_limits: Sequence[Path] | None,
    with_parameters: Sequence[Path] | None,
) -> "Iterator[sizing_service_pb2.Variation]":
    """A variation for each option by itself."""
    from positionsizing.v1 import limits_pb2, parameter_service_pb2
    from positionsizing.v1 import sizing_service_pb2 as pb

    from server.cli import files

    for word, values in factors.items():
        for factor in values or ():
            made = pb.Variation(name=f"{word} x {factor:g}")
            setattr(made, f"{word}_multiplier", factor)
            yield made
    for fraction in kelly or ():
        made = pb.Variation(name=f"Kelly fraction {fraction:g}")
        made.parameters.kelly_fraction = fraction
        yield made
    if shock:
        yield pb.Variation(name="shocks", shocks=[_shock(text) for text in shock])
    for path in with_limits or ():
        yield pb.Variation(name=path.name, limits=files.read_message(path, limits_pb2.Limits()))
    for path in with_parameters or ():
        chosen = files.read_message(path, parameter_service_pb2.SizingParameters())
        yield pb.Variation(name=path.name, parameters=chosen)


def show(
    base: "sizing_pb2.SizingDecision",
    results: "Sequence[sizing_service_pb2.WhatIfResult]",
    label: str,
    *,
    lines: bool,
) -> None:
    """Prints variations beside what they vary, which is called `label`."""
    out = console()
    out.print(summary_table(base, results, label))
    for result in results:
        if result.message:
            out.print(f"{result.name}: {result.message}")
    if lines:
        out.print()
        out.print(lines_table(base, results, label))


def summary_table(
    base: "sizing_pb2.SizingDecision",
    results: "Sequence[sizing_service_pb2.WhatIfResult]",
    label: str,
) -> "Table":
    """One row a variation: exposures, and how they differ from the request as it is."""
    from positionsizing.v1 import types_pb2

    from server.cli.labels import enum_words, percent
    from server.cli.render import table

    out = table(
        "What if",
        *("variation", "status", "gross", "change", "net", "turnover", "largest change"),
        left=("variation", "status", "largest change"),
        drop=("status", "turnover", "net"),
    )
    before = base.summary
    status = enum_words(types_pb2.SizingStatus, base.status, "SIZING_STATUS_")
    shown = [
        percent(v) for v in (before.gross_weight_after, before.net_weight_after, before.turnover)
    ]
    out.add_row(label, status, shown[0], "", *shown[1:], "")
    for result in results:
        status = enum_words(types_pb2.SizingStatus, result.status, "SIZING_STATUS_")
        if not result.HasField("summary"):
            out.add_row(result.name, status, "", "", "", "", "nothing is sized")
            continue
        after = result.summary
        out.add_row(
            result.name,
            status,
            percent(after.gross_weight_after),
            f"{after.gross_weight_after - before.gross_weight_after:+.2%}",
            percent(after.net_weight_after),
            percent(after.turnover),
            _largest(base.sizes, result.sizes),
        )
    return out


def _largest(sizes: "sizing_pb2.PositionSizes", other: "sizing_pb2.PositionSizes") -> str:
    changes = [after - before for after, before in zip(other.weight, sizes.weight, strict=True)]
    if not any(changes):
        return ""
    line = max(range(len(changes)), key=lambda i: abs(changes[i]))
    return f"{sizes.instrument_ids[line]} {changes[line]:+.2%}"


def lines_table(
    base: "sizing_pb2.SizingDecision",
    results: "Sequence[sizing_service_pb2.WhatIfResult]",
    label: str,
) -> "Table":
    """One row an instrument: its weight as it is, and under each variation."""
    from server.cli.labels import percent
    from server.cli.render import table

    sized = [result for result in results if result.HasField("sizes")]
    names = [f"{place}: {result.name}" for place, result in enumerate(sized, 1)]
    out = table("Weights", "instrument", label, *names, left=("instrument",))
    sizes = base.sizes
    for line, name in enumerate(sizes.instrument_ids):
        weights = [percent(result.sizes.weight[line]) for result in sized]
        out.add_row(name, percent(sizes.weight[line]), *weights)
    return out
