"""`sizing whatif-decision`: variations of a recorded decision, nothing recorded."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, print_json
from server.cli.decisions import DecisionId, NewestOf, decision_named
from server.cli.market import TIME, parse_time
from server.cli.what_if import Factor, factor, show, variations_of


def whatif_decision(
    decision_id: DecisionId = "",
    portfolio: NewestOf = "",
    snapshot: Annotated[str, typer.Option(help="On this market snapshot.")] = "",
    as_of: Annotated[str, typer.Option(help=f"Or on the newest one as of this time. {TIME}")] = "",
    scenarios: Annotated[str, typer.Option(help="With these scenarios.")] = "",
    covariance: Annotated[str, typer.Option(help="With this covariance or correlation.")] = "",
    instead: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Limits in place of those in force, looser ones too."
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="A limit that doesn't apply, as turnover_max; repeat."),
    ] = None,
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
        typer.Option(exists=True, dir_okay=False, help="Further limits of a variation; repeat."),
    ] = None,
    with_parameters: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Parameters of a variation; repeat."),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Weights of each instrument too.")] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Says what a recorded decision would have been; records nothing and permits nothing.

    The market, the matrices and the limits that are named hold for every variation; multipliers,
    shocks, parameters and further limits make one each, and without any of them there is one.
    """
    from positionsizing.v1 import explanation_service_pb2 as pb
    from positionsizing.v1 import limits_pb2
    from positionsizing.v1 import sizing_service_pb2 as sizing

    from server.cli import files

    common = pb.DecisionVariation(
        market_snapshot_id=snapshot,
        scenario_matrix_id=scenarios,
        covariance_matrix_id=covariance,
        limits_lifted=without or [],
    )
    if as_of and snapshot:
        raise typer.BadParameter("give --snapshot or --as-of, not both")
    if as_of:
        common.market_time.FromDatetime(parse_time(as_of, "--as-of"))
    if instead:
        common.limits_instead.CopyFrom(files.read_message(instead, limits_pb2.Limits()))
    factors = {"edge": edge, "price": price, "equity": equity, "volatility": volatility}
    changes = list(variations_of(factors, kelly, shock, with_limits, with_parameters))
    request = pb.WhatIfDecisionRequest()
    for change in changes or [sizing.Variation(name="changed")]:
        made = request.variations.add()
        made.CopyFrom(common)
        made.change.CopyFrom(change)
    if not changes and common == pb.DecisionVariation():
        raise typer.BadParameter("vary something: --snapshot, --instead FILE, --shock ID=0.7 ...")
    with connect(address) as client:
        request.decision_id = decision_named(client, decision_id, portfolio)
        answer = client.explanation.WhatIfDecision(request)
    if as_json:
        print_json(answer)
        return
    show(answer.recorded, answer.results, "as recorded", lines=lines)
