"""What recorded decisions were worth: `sizing performance`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Report,
    Strategy,
    Tables,
    connect,
    console,
    print_json,
)
from server.cli.errors import CommandError
from server.cli.page import Output

if TYPE_CHECKING:
    from positionsizing.v1 import analytics_service_pb2 as pb
    from positionsizing.v1 import simulation_service_pb2 as simulation_pb

    from server.cli.layout import Table

TIMEOUT_S = 120.0


def performance(
    portfolio: Annotated[str, typer.Argument(help="Portfolio, by id.")],
    strategy: Strategy = "",
    end: Annotated[str, typer.Option(help="Snapshot that values the last decision.")] = "",
    benchmark: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Attribute against these weights: instrument_id,weight.",
        ),
    ] = None,
    factors: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Divide return and risk among factors: a CSV of instrument_id and a column for "
            "each factor, an instrument by its name, with the exposures to it.",
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PORTFOLIO",
            help="Instead, whether the best strategy of this portfolio and of that one sizes "
            "better than nothing, Kelly or equal sizes, seeing how many there are; may be "
            "repeated, and may be the same.",
        ),
    ] = None,
    report: Report = None,
    tables: Tables = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """What the decisions of a portfolio were worth: by stage, against other sizes, after costs."""
    from positionsizing.v1 import analytics_service_pb2 as pb

    if compare:
        if strategy or benchmark or factors or report or tables:
            hint = "it compares every strategy, and has no page"
            raise CommandError("--compare takes none of the other options but --end", hint)
        from server.cli.compared import show_compared

        named = [
            pb.ComparedPortfolio(portfolio_id=name)
            for name in {portfolio: 0, **dict.fromkeys(compare)}
        ]
        asked = pb.CompareStrategiesRequest(portfolios=named, end_market_snapshot_id=end)
        with connect(address) as client:
            found = client.analytics.CompareStrategies(asked, timeout=TIMEOUT_S)
        if as_json:
            print_json(found)
        else:
            show_compared(console(), found)
        return
    request = pb.AnalyzeDecisionsRequest(
        portfolio_id=portfolio,
        strategy_id=strategy,
        end_market_snapshot_id=end,
        include_watched_edges=True,
    )
    if benchmark:
        from server.cli.files import read_weights

        told = read_weights(benchmark)
        request.benchmark.instrument_ids.extend(told.instrument_ids)
        request.benchmark.weights.extend(told.weights)
    if factors:
        request.factors.CopyFrom(read_exposures(factors))
    with connect(address) as client:
        answer = client.analytics.AnalyzeDecisions(request, timeout=TIMEOUT_S)
    output = Output(report, tables)
    if output:
        from server.cli.performance_page import write_performance

        write_performance(output, answer, portfolio)
    if as_json:
        print_json(answer)
        return
    out = console()
    for table in _tables(answer):
        out.print(table)
        out.print()
    for line in performance_lines(answer):
        out.print(line, markup=False)
    for line in output.lines():
        out.print(line, markup=False)


def _tables(answer: "pb.AnalyzeDecisionsResponse") -> "Iterator[Table]":
    from server.cli.labels import stage_name
    from server.cli.render import table

    if answer.HasField("stage_growth"):
        ledger = answer.stage_growth
        out = table("Log growth by stage", "stage", "growth", left=("stage",))
        out.add_row(stage_name(ledger.first_stage), f"{ledger.start:+.5f}")
        for stage, step in zip(ledger.stages, ledger.steps, strict=True):
            if step:
                out.add_row(stage_name(stage), f"{step:+.5f}")
        out.add_row("chosen", f"{ledger.start + sum(ledger.steps):+.5f}")
        yield out
        out = table("Against other sizes", "size", "growth", "chosen less it", left=("size",))
        for item in answer.counterfactuals:
            growth = f"{item.growth:+.5f}" if item.HasField("growth") else "ruin"
            out.add_row(item.name, growth, f"{item.difference.mean:+.2e} a decision")
        yield out

    if answer.HasField("attribution"):
        found = answer.attribution
        title = (
            f"{found.portfolio_return:+.2%} against {found.benchmark_return:+.2%} of the benchmark"
        )
        columns = ("group", "weight", "benchmark", "allocation", "selection")
        out = table(title, *columns, left=("group",))
        for group in found.groups:
            held = (f"{group.weight:.1%}", f"{group.benchmark_weight:.1%}")
            effects = (f"{group.allocation:+.3%}", f"{group.selection:+.3%}")
            out.add_row(group.group, *held, *effects)
        yield out
    if answer.HasField("factor_attribution"):
        yield _factor_table(answer.factor_attribution)


def read_exposures(path: Path) -> "pb.FactorExposures":
    """Exposures of a table: instrument_id, then a column for each factor."""
    from positionsizing.v1 import analytics_service_pb2 as pb

    from server.cli.sheet import read_sheet

    sheet = read_sheet(path, keep_case=True)
    if sheet.columns[:1] != ("instrument_id",) or len(sheet.columns) < 2:
        hint = "instrument_id,SPY,IWM"
        raise CommandError(f"{path}: the first line must name instrument_id and factors", hint)
    factors = sheet.columns[1:]
    return pb.FactorExposures(
        factor_ids=factors,
        instrument_ids=sheet.texts("instrument_id"),
        exposures=[sheet.number(row, name) for row in range(len(sheet.rows)) for name in factors],
    )


def _factor_table(found: "pb.FactorAttribution") -> "Table":
    from server.cli.render import table

    told = f", volatility {found.volatility:.2%} a period" if found.HasField("volatility") else ""
    columns = ("factor", "exposure", "return", "volatility", "correlation", "risk")
    out = table(f"{found.portfolio_return:+.2%} by factor{told}", *columns, left=("factor",))
    for item in found.effects:
        cells = [f"{item.exposure:.2f}" if item.HasField("exposure") else "", f"{item.effect:+.3%}"]
        if item.HasField("risk"):
            cells += [f"{item.volatility:.3%}", f"{item.correlation:+.2f}", f"{item.risk:+.3%}"]
        else:
            cells += [""] * 3
        out.add_row(item.factor, *cells)
    return out


def _evidence(answer: "pb.AnalyzeDecisionsResponse") -> str:
    """What realised growth proves by now, and when it will."""
    found = answer.evidence
    told = (
        f"growth a decision {found.growth:+.2e} is {abs(found.t_statistic):.1f} standard errors "
        f"from 0 after {answer.decisions}"
    )
    if abs(found.t_statistic) >= 2.0 or not found.HasField("decisions_needed"):
        return told
    return f"{told}; two take {found.decisions_needed:,.0f} decisions like these"


def _watched(edge: "pb.WatchedEdge") -> str:
    from server.cli.labels import count_words

    whose = f"strategy {edge.strategy_id}" if edge.strategy_id else "decisions of no strategy"
    if edge.is_reduced:
        return f"watched, {whose}: its edge was gone; nothing counts until trading is resumed"
    if not edge.bets:
        return f"watched, {whose}: no bets with an outcome yet; the alert EDGE_GONE comes at 20"
    begun = f"{edge.create_time_from.ToDatetime():%Y-%m-%d %H:%M}"
    made = f"{count_words(edge.bets, 'bet')} since {begun}"
    return (
        f"watched, {whose}: {made}, evidence for an edge {edge.e_value_edge:.3g}, that it is gone "
        f"{edge.e_value_gone:.3g} (the alert EDGE_GONE comes at 20)"
    )


def _sequential(found: "pb.SequentialResult") -> str:
    from positionsizing.v1 import analytics_service_pb2 as pb

    if found.verdict == pb.SEQUENTIAL_VERDICT_GOES_ON:
        test = found.test
        return (
            f"test of the claims: too few bets to say after {found.bets:,}; it takes "
            f"{test.bets_if_it_holds:,.0f} where they hold, {test.bets_if_gone:,.0f} where not"
        )
    holds = found.verdict == pb.SEQUENTIAL_VERDICT_HOLDS
    return f"test of the claims: they {'hold' if holds else 'are gone'}, said after {found.bets:,}"


def _return_lines(found: "pb.ReturnForecast") -> Iterator[str]:
    """How good forecasts of returns were, and where they were not."""
    gain = found.edge_gain
    told = f" (95 % from {gain.low:+.2e} to {gain.high:+.2e})" if gain.HasField("low") else ""
    yield (
        f"{found.lines} forecasts of returns: CRPS {found.crps:.3e}, expected returns improved "
        f"it by {gain.mean:+.2e}{told}"
    )
    yield (
        f"their {found.interval_probability:.0%} intervals had {found.interval_coverage:.1%} of "
        f"what came, interval score {found.interval_score:.3e}"
    )
    below = ", ".join(f"{item.below:.0%} under the {item.level:.0%}" for item in found.quantiles)
    yield f"quantiles: {below} one; distance of F(return) from uniform {found.pit_distance:.2f}"


UNPRICED_SHOWN = 5
"""Instruments."""
LEFT_OUT = {
    "NO_LATER_PRICE": "no later prices; sizing market load FILE stores them",
    "SUPERSEDED": "another decision on the same prices followed, and took their place",
}


def _unpriced(lines: "Sequence[simulation_pb.NamedCount]") -> str:
    from server.cli.labels import count_words

    most = ", ".join(f"{item.name} {item.count}" for item in lines[:UNPRICED_SHOWN])
    more = f" and {len(lines) - UNPRICED_SHOWN} more" if len(lines) > UNPRICED_SHOWN else ""
    lost = count_words(sum(item.count for item in lines), "line")
    return f"left out {lost} without a later price, as if not held: {most}{more}"


def performance_lines(answer: "pb.AnalyzeDecisionsResponse") -> Iterator[str]:
    """What there is to say of decisions beside the tables; on the first day, that it is early."""
    from server.cli.labels import count_words, money

    if answer.decisions:
        yield f"{count_words(answer.decisions, 'decision')}, {count_words(answer.lines, 'line')}"
    elif answer.left_out:
        yield "nothing can be measured yet: no decision has prices after its own"
    else:
        yield "nothing can be measured yet: no decision was made; sizing size makes them"
    for item in answer.left_out:
        yield f"left out {item.count}: {LEFT_OUT.get(item.name, item.name)}"
    if answer.unpriced_lines:
        yield _unpriced(answer.unpriced_lines)
    if answer.HasField("growth_forecast"):
        growth = answer.growth_forecast
        slope = f", slope {growth.slope:.2f}" if growth.HasField("slope") else ""
        came = f"realised {growth.realised:+.2e}{slope}"
        yield f"growth a line: expected {growth.expected:+.2e}, {came}"
    if answer.HasField("bet_forecast"):
        bets = answer.bet_forecast
        yield (
            f"{count_words(bets.bets, 'bet')}: Brier score {bets.brier:.4f} (the win rate alone "
            f"{bets.brier_base:.4f}), evidence for an edge {bets.e_value_edge:.3g}, "
            f"that it is gone {bets.e_value_gone:.3g} (20 is strong)"
        )
        if bets.HasField("sequential"):
            yield _sequential(bets.sequential)
    if answer.HasField("evidence"):
        yield _evidence(answer)
    yield from map(_watched, answer.watched_edges)
    if answer.HasField("return_forecast"):
        yield from _return_lines(answer.return_forecast)
    if answer.shortfall.HasField("rate"):
        lost = answer.shortfall
        yield (
            f"shortfall {lost.rate * 1e4:.1f} bp of {money(lost.notional)}: execution "
            f"{lost.execution:,.2f}, not filled {lost.opportunity:,.2f}, fees {lost.fees:,.2f}"
        )
    if answer.HasField("impact"):
        fit = answer.impact
        yield (
            f"impact: slippage = {fit.coefficient:.2f} (+- {fit.error:.2f}) daily volatilities x "
            f"sqrt(part of a day's volume), from {fit.trades} trades"
        )
