"""`sizing learn mix`: money divided among strategies by what they made."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    connect,
    console,
    print_json,
    say,
)


def mix(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="Returns: CSV, CSV.gz or Parquet, a column a strategy; `date` is not read.",
        ),
    ],
    kind: Annotated[str, typer.Option(help="wealth, fixed-share or universal.")] = "wealth",
    share: Annotated[
        float | None, typer.Option(help="Of fixed-share: divided anew each period.")
    ] = None,
    even_prior: Annotated[
        bool, typer.Option(help="Of universal: every mixture counts alike.")
    ] = False,
    cost: Annotated[float, typer.Option(help="Cost of what is traded between them.")] = 0.0,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Divides money among strategies, and says how far that fell behind the best of them."""
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.files import naming_lines
    from server.cli.labels import enum_value
    from server.cli.render import table
    from server.cli.sheet import read_sheet

    sheet = read_sheet(file, keep_case=True)
    request = pb.MixStrategiesRequest(
        strategies=[
            pb.StrategyReturns(name=name, returns=sheet.numbers(name))
            for name in sheet.columns
            if name != "date"
        ],
        kind=enum_value(pb.MixKind, "MIX_KIND_", kind, "--kind"),
        share=share,
        even_prior=even_prior,
        cost_rate=cost,
    )
    with connect(address) as client, naming_lines(file):
        answer = client.learning.MixStrategies(request)
    if as_json:
        print_json(answer)
        return
    out = table("Strategies", "strategy", "log wealth", "next part", left=("strategy",))
    rows = zip(answer.names, answer.strategy_log_wealth, answer.next_weights, strict=True)
    for name, made, weight in rows:
        out.add_row(name, f"{made:+.4f}", f"{weight:.1%}")
    console().print(out)
    say(f"the mixture made {answer.log_wealth[-1]:+.4f}, {answer.log_wealth_net:+.4f} after costs")
    best = f"the best made {answer.best_log_wealth:+.4f}"
    if answer.best_weights:
        parts = zip(answer.best_weights, answer.names, strict=True)
        best += " with " + ", ".join(f"{part:.1%} of {name}" for part, name in parts if part > 0.0)
    say(f"{best}: regret {answer.regret:.4f} of at most {answer.regret_max:.4f}")
