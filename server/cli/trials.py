"""`sizing trials`: what was tried in an experiment, and who looked at its locked sessions."""

from typing import Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json


def trials(
    experiment: Annotated[
        str, typer.Argument(help="As backtest and tune name it with --experiment, or tell it.")
    ],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The most that are shown.")] = 20,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists settings that were tried in an experiment, and each look at locked sessions."""
    from positionsizing.v1 import simulation_service_pb2 as pb

    from server.cli.render import table

    with connect(address) as client:
        request = pb.ListTrialsRequest(experiment=experiment, limit=limit)
        answer = client.simulation.ListTrials(request)
    if as_json:
        print_json(answer)
        return
    left = ("setting", "sessions", "tried by", "first by", "at")
    title = f"{answer.trials_counted:,} settings tried in {experiment}"
    if len(answer.trials) < answer.trials_counted:
        title += f", the newest {len(answer.trials)}"
    tried = table(title, *left, "Sharpe a session", left=left)
    for item in answer.trials:
        sharpe = f"{item.sharpe:+.4f}" if item.HasField("sharpe") else "-"
        span = f"{item.first_date} to {item.last_date}"
        time = f"{item.create_time.ToDatetime():%Y-%m-%d %H:%M}"
        tried.add_row(item.trial_hash[:12], span, item.method, item.author, time, sharpe)
    out = console()
    out.print(tried)
    for opening in answer.locked_openings:
        out.print(
            f"locked sessions {opening.first_date} to {opening.last_date}: looked at by "
            f"{opening.author}, {opening.open_time.ToDatetime():%Y-%m-%d %H:%M} UTC",
            markup=False,
        )
