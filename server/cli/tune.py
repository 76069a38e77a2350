"""`sizing tune`: a search of parameters, judged walk-forward, that ends in a proposal."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Report,
    Tables,
    connect,
    console,
    file_to_write,
    print_json,
)
from server.cli.layout import Table
from server.cli.page import Output
from server.cli.past import Past, over_the_past

if TYPE_CHECKING:
    from positionsizing.v1 import simulation_service_pb2 as pb
    from rich.console import Console

SHOWN = 8
OBJECTIONS = {
    "NOTHING_BETTER": "no trial has a better plateau",
    "WALK_FORWARD": "walk-forward, choices did no better than the setting as it is",
    "LOCKED": "in the locked sessions the choice did no better",
    "NOT_SUPERIOR": "that the best is luck has a probability above 0.1",
    "OVERFITTED": "the best of one half is more often than not among the worse in the other",
}


@over_the_past
def tune(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="TOML or JSON of a TuneParametersRequest."
        ),
    ],
    past: Past,
    proposal: Annotated[Path | None, file_to_write("Write the proposed parameters (JSON).")] = None,
    propose_anyway: Annotated[
        bool,
        typer.Option("--propose-anyway", help="Propose also what its own evidence speaks against."),
    ] = False,
    report: Report = None,
    tables: Tables = None,
    job: Annotated[
        bool, typer.Option("--job", help="Only start it, and say the job's id; see sizing jobs.")
    ] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Searches parameters on past prices and proposes some; sets nothing.

    Every trial is counted, the choice is judged walk-forward, and the last part of the history is
    looked at once, by the choice alone. What that evidence speaks against is not proposed.
    """
    from google.protobuf.json_format import MessageToDict
    from positionsizing.v1 import simulation_service_pb2 as pb

    from server.cli import files
    from server.cli.simulate import followed

    request = files.read_message(file, pb.TuneParametersRequest())
    past.put_into(request, "search on")
    if job:
        from positionsizing.v1 import job_service_pb2

        from server.cli.jobs import start

        job_request = job_service_pb2.StartJobRequest(tune_parameters=request, about=file.name)
        with connect(address) as client:
            start(client, job_request, as_json=as_json)
        return
    work = pb.FollowSimulationRequest(tune_parameters=request)
    with connect(address) as client:
        answer = followed(client, work).tune_parameters
    output = Output(report, tables)
    if output:
        from server.cli.tune_page import write_tuned

        write_tuned(output, answer)
    proposed = is_proposed(answer, anyway=propose_anyway)
    if proposal and proposed:
        told = MessageToDict(answer.proposal, preserving_proto_field_name=True)
        proposal.write_text(json.dumps(told, indent=2) + "\n")
    if as_json:
        print_json(answer)
        return
    out = console()
    show_tuned(out, answer)
    for line in output.lines():
        out.print(line, markup=False)
    if proposed:
        where = str(proposal) if proposal else "FILE (write one with --proposal FILE)"
        for line in how_to_apply(answer, where):
            out.print(line)
    elif proposal and answer.chosen:
        out.print(f"{proposal} was not written; --propose-anyway writes it all the same")


def is_proposed(answer: "pb.TuneParametersResponse", *, anyway: bool) -> bool:
    """Whether the chosen trial is to be given to a person."""
    return bool(answer.chosen) and (answer.is_recommended or anyway)


def how_to_apply(answer: "pb.TuneParametersResponse", where: str) -> Iterator[str]:
    """The command that sets the proposal, and what was chosen with it that is no parameter."""
    yield (
        "to apply, for one strategy or for one --portfolio: "
        f'sizing parameters set {where} --merge --strategy STRATEGY --reason "tuned"'
    )
    chosen = zip(answer.fields, answer.trials[answer.chosen].values, strict=True)
    if others := [item for item in chosen if not item[0].startswith("parameters.")]:
        told = ", ".join(f"{name} {value:.6g}" for name, value in others)
        yield f"chosen with it, and in no file of parameters: {told}; set that as well, or neither"


def show_tuned(out: "Console", answer: "pb.TuneParametersResponse") -> None:
    """The trials, and how much of what was found is skill."""
    out.print(trials_table(answer))
    out.print()
    for line in verdict(answer):
        out.print(line)


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
    from server.cli.simulated import counted, delisting_lines

    forward, base = answer.walk_forward_growth, answer.base_growth
    better = sum(a > b for a, b in zip(forward, base, strict=True))
    said = [
        "nothing is better than the setting as it is"
        if not answer.chosen
        else f"trial {answer.chosen} has the best plateau",
        f"walk-forward: {sum(forward) / len(forward):+.2e} a session against "
        f"{sum(base) / len(base):+.2e} as it is; better in {better} of {len(base)} segments",
    ]
    locked = answer.locked_growth
    seen = answer.locked_openings_before + answer.locked_trials_before
    once = "looked at before" if seen else "looked at once"
    said.append(f"locked since {answer.locked_from}, {once}: {locked.mean:+.2e} a session")
    said += not_unseen(answer)
    if answer.HasField("locked_difference"):
        found = answer.locked_difference
        ends = f", 95 % from {found.low:+.2e} to {found.high:+.2e}" if found.HasField("low") else ""
        said.append(f"there it differs from the setting as it is by {found.mean:+.2e}{ends}")
    luck = answer.overfitting
    said += counted(luck)
    if luck.HasField("deflated_sharpe"):
        said.append(
            f"that its returns are more than the luck of {luck.trials} trials: probability "
            f"{luck.deflated_sharpe:.2f} (not: that it is better than the setting as it is)"
        )
    if luck.HasField("overfitting_probability"):
        chance = luck.overfitting_probability
        said.append(f"probability of overfitting {chance:.2f} (0.5 +- 0.24 on pure noise)")
    if answer.HasField("superior_ability_p"):
        said.append(
            f"that the best is no better than the setting is: p {answer.superior_ability_p:.2f} "
            f"(reality check {answer.reality_check_p:.2f})"
        )
    return [*delisting_lines(answer.delistings), *said, advice(answer)]


def not_unseen(answer: "pb.TuneParametersResponse") -> list[str]:
    """What was seen of the locked sessions before; nothing where they were unseen."""
    said = []
    if count := answer.locked_openings_before:
        last = answer.locked_opened_last
        times = "once" if count == 1 else f"{count} times"
        said.append(
            f"they are no longer unseen: searches have opened them {times} before, last "
            f"{last.author}, {last.open_time.ToDatetime():%Y-%m-%d %H:%M} UTC"
        )
    if count := answer.locked_trials_before:
        said.append(f"they are no longer unseen: {count} settings were run over them before")
    return said


def advice(answer: "pb.TuneParametersResponse") -> str:
    """What to do, and why."""
    from positionsizing.v1 import simulation_service_pb2 as pb

    if answer.is_recommended:
        return f"nothing speaks against trial {answer.chosen}: it is proposed"
    names = [pb.TuneObjection.Name(item) for item in answer.objections]
    why = "; ".join(OBJECTIONS[name.removeprefix("TUNE_OBJECTION_")] for name in names)
    return f"keep what you have: {why}"
