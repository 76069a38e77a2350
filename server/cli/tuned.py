"""What a search of parameters found, in words and tables."""

from typing import TYPE_CHECKING

from server.cli.layout import Table

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
