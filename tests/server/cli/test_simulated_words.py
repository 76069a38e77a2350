"""What a backtest is told as, from answers written here."""

from positionsizing.v1 import simulation_service_pb2 as pb
from positionsizing.v1 import types_pb2

from server.cli.simulated import backtest_tables


def result(name: str, first: int, **growth: float) -> pb.BacktestResult:
    ledger = pb.StageGrowth(
        first_stage=first,  # type: ignore[arg-type]
        start=0.5,
        stages=[types_pb2.SIZING_STAGE_LOTS],
        steps=[-0.25],
        **growth,
    )
    return pb.BacktestResult(name=name, stage_growth=ledger)


def test_stages_that_would_have_lost_everything_are_told_once() -> None:
    answer = pb.RunBacktestResponse(
        mode=pb.BACKTEST_MODE_EXACT,
        dates=["2024-01-02", "2024-01-03"],
        results=[
            result("full", types_pb2.SIZING_STAGE_CASH),
            result("half", types_pb2.SIZING_STAGE_RAW_KELLY),
        ],
    )
    (stages,) = [t for t in backtest_tables(answer) if t.title == "Log growth by stage"]
    assert [row[1:] for row in stages.rows][:1] == [("ruin", "")]
    assert sum("ruin" in row for row in stages.rows) == 1
    kept = {row[0]: row[1:] for row in stages.rows if "+0.5000" in row}
    assert sorted(kept.values()) == [("", "+0.5000"), ("+0.5000", "")]
