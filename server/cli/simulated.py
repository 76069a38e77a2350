"""Backtests and simulated futures as tables."""

from collections.abc import Iterable, Iterator
from typing import Any

from positionsizing.v1 import simulation_service_pb2 as pb
from rich.console import Console

from server.cli.labels import STAGES, enum_words, money, percent, stage_name
from server.cli.layout import Table
from server.cli.render import table


def show_backtest(out: Console, answer: pb.RunBacktestResponse) -> None:
    """All there is to say of a backtest."""
    for found in backtest_tables(answer):
        out.print(found)
        out.print()
    for line in (*delisting_lines(answer.delistings), *overfitting_lines(answer)):
        out.print(line, markup=False)


def backtest_tables(answer: pb.RunBacktestResponse) -> Iterator[Table]:
    """What each setting earned, by stage, and what it cost."""
    yield _measures_table(answer)
    if any(result.HasField("stage_growth") for result in answer.results):
        yield _stages_table(answer)
    yield _costs_table(answer)
    if (unsized := _unsized_table(answer)) is not None:
        yield unsized


def _measures_table(answer: pb.RunBacktestResponse) -> Table:
    mode = enum_words(pb.BacktestMode, answer.mode, "BACKTEST_MODE_")
    out = table(
        f"{answer.dates[0]} to {answer.dates[-1]}, {len(answer.dates)} sessions, mode {mode}",
        *("setting", "total", "growth/yr", "vol/yr", "Sharpe", "max fall", "trades"),
        left=("setting",),
    )
    rows = [(item.name, item.measures, f"{item.trades:,}") for item in answer.results]
    if answer.HasField("benchmark"):
        rows.append((f"{answer.benchmark.name}, held", answer.benchmark.measures, ""))
    for name, found, trades in rows:
        out.add_row(
            name,
            _known(found, "total_return", percent),
            _known(found, "log_growth", percent),
            _known(found, "volatility", percent),
            _known(found, "sharpe", lambda value: f"{value:.2f}"),
            _known(found, "max_drawdown", percent),
            trades,
        )
    return out


def _stages_table(answer: pb.RunBacktestResponse) -> Table:
    """Log growth that each stage added or took, the stages that changed nothing left out.

    Stages before the first one that keeps wealth are said once: sizes of each would lose it all.
    """
    names = [result.name for result in answer.results]
    out = table("Log growth by stage", "stage", *names, left=("stage",))
    rows = {stage: [""] * len(names) for stage in STAGES}
    firsts = [STAGES.index(result.stage_growth.first_stage) for result in answer.results]
    for column, result in enumerate(answer.results):
        ledger = result.stage_growth
        rows[ledger.first_stage][column] = f"{ledger.start:+.4f}"
        for stage, step in zip(ledger.stages, ledger.steps, strict=True):
            rows[stage][column] = f"{step:+.4f}" if step else ""
    if any(firsts):
        out.add_row("before these", *("ruin" if first else "" for first in firsts))
    for number, cells in rows.items():
        if any(cells):
            out.add_row(stage_name(number), *cells)
    for label, field in (("execution, fees, interest", "execution"), ("total", "total")):
        sums = [_known(item.stage_growth, field, lambda v: f"{v:+.4f}") for item in answer.results]
        out.add_row(label, *sums)
    return out


def _costs_table(answer: pb.RunBacktestResponse) -> Table:
    columns = ["setting", "commission", "slippage", "dividends", "interest", "borrow"]
    if answer.delistings:
        columns.append("delistings")
    if any(result.account.fractions for result in answer.results):
        columns.append("fractions")
    out = table("Paid and earned", *columns, left=("setting",))
    for result in answer.results:
        amounts = [money(getattr(result.account, name)) for name in columns[1:]]
        out.add_row(result.name, *amounts)
    return out


def _unsized_table(answer: pb.RunBacktestResponse) -> Table | None:
    """What could not be sized, and why; None where everything could."""
    out = table("Not sized", "setting", "what", "why", "how often", left=("setting", "what", "why"))
    is_any = False
    for result in answer.results:
        counts = [("decision", item.name, item.count) for item in result.refused]
        counts += [("line", item.name, item.count) for item in result.refused_lines]
        if result.reducing_decisions:
            counts.append(("increases of a decision", "day_loss_max", result.reducing_decisions))
        for what, why, count in counts:
            out.add_row(result.name, what, why, f"{count:,}")
            is_any = True
    return out if is_any else None


def delisting_lines(delistings: Iterable[pb.AppliedDelisting]) -> Iterator[str]:
    """At what positions in instruments that left were closed, and by whose word."""
    for item in delistings:
        by = "by --delisting-return" if item.is_default else "as given"
        yield f"{item.instrument_id}: delisted on {item.date} at {item.price:g}, {by}"


def _known(message: Any, name: str, words: Any) -> str:
    return words(getattr(message, name)) if message.HasField(name) else "-"


def overfitting_lines(answer: pb.RunBacktestResponse) -> Iterator[str]:
    """How far to believe the best of them."""
    for result in answer.results[1:]:
        yield _difference(result.name, answer.results[0].name, result.growth_difference)
    if answer.HasField("benchmark"):
        for result in answer.results:
            if result.HasField("benchmark_difference"):
                beside = answer.benchmark.name
                yield _difference(result.name, beside, result.benchmark_difference)
    if answer.HasField("superior_ability_p"):
        beside = answer.benchmark.name or answer.results[0].name
        yield (
            f"that the best of them is no better than {beside}: p {answer.superior_ability_p:.2f} "
            f"(reality check {answer.reality_check_p:.2f}), all of this call counted"
        )
    luck = answer.overfitting
    yield from counted(luck)
    if luck.HasField("deflated_sharpe"):
        yield (
            f"best: {luck.best}, of {luck.trials} tried; "
            f"{percent(luck.deflated_sharpe, 0)} sure that it beats the best of so many by luck"
        )
    if luck.HasField("overfitting_probability"):
        share = percent(luck.overfitting_probability, 0)
        yield f"probability of overfitting {share} (about 50 % +- 25 on pure noise)"
    for result in answer.results:
        if not result.decisions and not result.refused:
            yield f"{result.name}: no decision, as there was no signal before the last session"
        if result.measures.HasField("evidence_periods") and result.name == luck.best:
            sessions = result.measures.evidence_periods
            yield f"its growth is two standard errors from 0 after {sessions:,.0f} sessions"
        if result.ruin_date:
            yield f"{result.name}: ruined on {result.ruin_date}"
        for refused in result.refused:
            yield f"{result.name}: {refused.count} decisions refused, {refused.name}"


def _difference(name: str, other: str, found: pb.MeanInterval) -> str:
    if not found.HasField("low"):
        return f"{name}: too few sessions to compare with {other}"
    return (
        f"{name} less {other}: {found.mean:+.2e} a session, "
        f"95 % from {found.low:+.2e} to {found.high:+.2e}"
    )


def counted(luck: pb.Overfitting) -> Iterator[str]:
    """How many settings the service knows of, and where they are listed."""
    if luck.experiment:
        yield (
            f"tried so far: {luck.trials_counted:,} distinct settings "
            f"(sizing trials {luck.experiment})"
        )


def fan_table(request: pb.SimulateGrowthRequest, answer: pb.SimulateGrowthResponse) -> Table:
    """Wealth at the end, growth and falls of each fraction."""
    levels = [f"ever {level:g}" for level in request.levels]
    title = f"{request.paths:,} futures of {answer.years[-1]:g} years"
    if request.withdrawal_rate:
        title += f", {percent(request.withdrawal_rate, 1)} of the start taken out a year"
    # With withdrawals there is no closed form to show, and wealth may run out.
    chance = "runs out" if request.withdrawal_rate else "halves first"
    out = table(
        title,
        *("fraction", "5 %", "median", "95 %", "growth/yr", "median fall", chance, *levels),
    )
    count = len(answer.years)
    for fan in answer.fans:
        ends = [fan.wealth[(quantile + 1) * count - 1] for quantile in (0, 2, 4)]
        out.add_row(
            f"{fan.fraction:g}",
            *(f"{end:.3f}" for end in ends),
            _known(fan, "growth", percent),
            percent(fan.drawdown_median, 1),
            percent(fan.ran_out, 1)
            if request.withdrawal_rate
            else _known(fan, "halves_before_doubling", percent),
            *(percent(chance, 1) for chance in fan.fell_below),
        )
    return out
