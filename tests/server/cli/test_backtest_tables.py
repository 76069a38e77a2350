"""What a backtest could not size is shown, not only counted."""

from positionsizing.v1 import simulation_service_pb2 as pb
from rich.console import Console

from server.cli.simulated import backtest_tables


def shown(result: pb.BacktestResult) -> str:
    answer = pb.RunBacktestResponse(dates=["2024-01-02", "2024-01-03"], results=[result])
    console = Console(width=120, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        for table in backtest_tables(answer):
            console.print(table)
    return captured.get()


def test_refusals_have_a_table_of_their_own() -> None:
    result = pb.BacktestResult(
        name="joint",
        refused=[pb.NamedCount(name="TOO_FEW_SESSIONS", count=40)],
        refused_lines=[pb.NamedCount(name="NOT_IN_ESTIMATES", count=7)],
        reducing_decisions=3,
    )
    text = shown(result)
    for words in ("TOO_FEW_SESSIONS", "40", "NOT_IN_ESTIMATES", "7", "day_loss_max", "3"):
        assert words in text
    assert "Not sized" not in shown(pb.BacktestResult(name="plain"))
