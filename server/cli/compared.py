"""The best of all strategies against other sizes: what `sizing performance --compare` shows."""

from typing import TYPE_CHECKING

from server.cli.render import table

if TYPE_CHECKING:
    from positionsizing.v1 import analytics_service_pb2 as pb
    from rich.console import Console

REASONS = {
    "TOO_FEW_OUTCOMES": "too few outcomes: it takes 60 days with decisions",
    "NOTHING_DIFFERS": "no strategy sized otherwise",
    "ALL_RUINED": "every strategy was ruined",
}


def show_compared(out: "Console", answer: "pb.CompareStrategiesResponse") -> None:
    """All strategies, and the best of them against each other way to size."""
    columns = ("portfolio", "strategy", "decisions", "left out", "growth")
    listed = table("Strategies", *columns, left=columns[:2])
    for item in answer.strategies:
        growth = f"{item.growth:+.5f}" if item.HasField("growth") else ""
        if item.decisions and not growth:
            growth = "ruin"
        left_out = sum(one.count for one in item.left_out)
        told = (str(item.decisions), str(left_out) if left_out else "", growth)
        listed.add_row(item.portfolio_id, item.strategy_id or "(none)", *told)
    out.print(listed)
    out.print()
    title = f"The best of them over {answer.days} days"
    columns = ("against", "best", "of", "a day", "luck, of so many")
    tested = table(title, *columns, left=("against", "best"))
    for test in answer.tests:
        best, mean = "", ""
        if test.HasField("best"):
            chosen = answer.strategies[test.best]
            best = f"{chosen.portfolio_id} {chosen.strategy_id or '(none)'}"
            mean = f"{test.difference.mean:+.2e}"
        luck = f"p = {test.superior_ability_p:.3f}" if test.HasField("superior_ability_p") else ""
        tested.add_row(test.benchmark, best, str(test.strategies_compared), mean, luck)
    out.print(tested)
    for reason in dict.fromkeys(test.undefined_reason for test in answer.tests):
        if reason:
            names = ", ".join(t.benchmark for t in answer.tests if t.undefined_reason == reason)
            out.print(f"against {names}: {REASONS.get(reason, reason)}", markup=False)
