"""`sizing tune`: a search of parameters, judged walk-forward, that ends in a proposal."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json
from server.cli.layout import Table

if TYPE_CHECKING:
    from positionsizing.v1 import simulation_service_pb2 as pb

TIMEOUT_S = 3600.0
SHOWN = 8


def tune(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="TOML or JSON of a TuneParametersRequest."
        ),
    ],
    prices: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Closes: CSV, CSV.gz or Parquet."),
    ] = None,
    universe: Annotated[str, typer.Option(help="Or a universe stored before, by name.")] = "",
    proposal: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the proposed parameters (JSON).")
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Searches parameters on past prices and proposes some; sets nothing.

    Every trial is counted, the choice is judged walk-forward, and the last part of the history is
    looked at once, by the choice alone.
    """
    from google.protobuf.json_format import MessageToDict
    from positionsizing.v1 import simulation_service_pb2 as pb

    from server.cli import files
    from server.cli.simulate import use_history

    request = files.read_message(file, pb.TuneParametersRequest())
    use_history(request, prices, universe, "search on")
    out = console()
    with connect(address) as client, out.status("searching, in a process of the service"):
        answer = client.simulation.TuneParameters(request, timeout=TIMEOUT_S)
    if proposal:
        told = MessageToDict(answer.proposal, preserving_proto_field_name=True)
        proposal.write_text(json.dumps(told, indent=2) + "\n")
    if as_json:
        print_json(answer)
        return
    out.print(trials_table(answer))
    out.print()
    for line in verdict(answer):
        out.print(line)
    if answer.chosen:
        where = str(proposal) if proposal else "FILE (write one with --proposal FILE)"
        out.print(f'to apply: sizing parameters set {where} --reason "tuned"')


def trials_table(answer: "pb.TuneParametersResponse") -> Table:
    """The setting as it is and the best plateaus, the chosen one first."""
    from server.cli.render import table

    out = table(
        f"{len(answer.trials)} trials, log growth a session",
        *("trial", *answer.fields, "lower quantile", "with neighbours"),
        left=("trial",),
    )
    ranked = sorted(
        range(len(answer.trials)),
        key=lambda i: answer.trials[i].plateau if answer.trials[i].HasField("plateau") else -1e9,
        reverse=True,
    )
    for place in dict.fromkeys([0, answer.chosen, *ranked[:SHOWN]]):
        trial = answer.trials[place]
        name = "as it is" if place == 0 else f"{place}{' chosen' if place == answer.chosen else ''}"
        figures = [
            f"{getattr(trial, field):+.2e}" if trial.HasField(field) else "ruin"
            for field in ("objective", "plateau")
        ]
        out.add_row(name, *(f"{value:.6g}" for value in trial.values), *figures)
    return out


def verdict(answer: "pb.TuneParametersResponse") -> list[str]:
    """How much of what was found is skill, in sentences."""
    forward, base = answer.walk_forward_growth, answer.base_growth
    better = sum(a > b for a, b in zip(forward, base, strict=True))
    said = [
        "nothing is better than the setting as it is"
        if not answer.chosen
        else f"trial {answer.chosen} is proposed",
        f"walk-forward: {sum(forward) / len(forward):+.2e} a session against "
        f"{sum(base) / len(base):+.2e} as it is; better in {better} of {len(base)} segments",
    ]
    locked = answer.locked_growth
    said.append(f"locked since {answer.locked_from}, looked at once: {locked.mean:+.2e} a session")
    if answer.HasField("locked_difference"):
        found = answer.locked_difference
        ends = f", 95 % from {found.low:+.2e} to {found.high:+.2e}" if found.HasField("low") else ""
        said.append(f"there it differs from the setting as it is by {found.mean:+.2e}{ends}")
    luck = answer.overfitting
    if luck.HasField("deflated_sharpe"):
        said.append(f"probability of skill after {luck.trials} trials: {luck.deflated_sharpe:.2f}")
    if luck.HasField("overfitting_probability"):
        chance = luck.overfitting_probability
        said.append(f"probability of overfitting {chance:.2f} (0.5 +- 0.24 on pure noise)")
    if answer.HasField("superior_ability_p"):
        said.append(
            f"that the best is no better than the setting is: p {answer.superior_ability_p:.2f} "
            f"(reality check {answer.reality_check_p:.2f})"
        )
    return said
