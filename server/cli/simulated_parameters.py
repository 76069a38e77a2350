"""Parameters as rules would have moved them, for people."""

from positionsizing.v1 import parameter_service_pb2 as pb

from server.cli.common import console, say
from server.cli.render import table


def show(answer: pb.SimulateParametersResponse) -> None:
    """The times at which anything moved, and what each rule did over all of them."""
    names = ("time", "Kelly fraction", "as stored", "counts")
    out = table("Parameters at past times, where they moved", *names, left=("time", "counts"))
    shown, before = 0, ""
    for place, time in enumerate(answer.times):
        now = (answer.kelly_fraction[place], answer.kelly_fraction_stored[place])
        cut = [rule.name for rule in answer.rules if rule.multiplier[place] < 1.0]
        told = (*(f"{value:.4g}" for value in now), ", ".join(cut))
        if repr(told) != before:
            out.add_row(f"{time.ToDatetime():%Y-%m-%d %H:%M:%S}", *told)
            shown, before = shown + 1, repr(told)
    console().print(out)
    say(f"{shown} of {len(answer.times)} times differ from the one before")
    for rule in answer.rules:
        least = min(rule.multiplier)
        times = f"counted at {rule.binding_count} of {len(answer.times)} times"
        say(f"{rule.name}: {times}, smallest x {least:.4g}")
        say(f"  {rule.explanation}")
    for line in answer.lines:
        edge = f"edge x {min(line.edge_multiplier):.4g} at the least"
        largest = f", volatility up to {max(line.volatility):.4g}"
        weight = f", weight at most {min(line.weight_max):.4g}" if line.weight_max else ""
        say(f"{line.instrument_id}: {edge}{largest}{weight}")
