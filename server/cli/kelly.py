"""What Kelly says of one bet or asset: `sizing kelly`."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    GuaranteePeriods,
    GuaranteeProbability,
    connect,
    console,
    print_json,
    say,
)
from server.cli.errors import CommandError

if TYPE_CHECKING:
    from positionsizing.v1 import edge_service_pb2 as pb


def kelly(
    win_probability: Annotated[float | None, typer.Option(help="Of a bet; with --payoff.")] = None,
    payoff: Annotated[float | None, typer.Option(help="Gain of a win per unit of stake.")] = None,
    loss: Annotated[float, typer.Option(help="Loss of a loss per unit of stake.")] = 1.0,
    outcomes: Annotated[
        float | None, typer.Option(help="Outcomes that the probability comes from.")
    ] = None,
    mean: Annotated[
        float | None, typer.Option(help="Of an asset: expected return a year; with --volatility.")
    ] = None,
    volatility: Annotated[float | None, typer.Option(help="Deviation a year.")] = None,
    rate: Annotated[float, typer.Option(help="Risk-free rate a year.")] = 0.0,
    years: Annotated[float | None, typer.Option(help="Of the history the mean comes from.")] = None,
    fraction: Annotated[
        list[float] | None, typer.Option(help="Fraction of Kelly to look at; may be repeated.")
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(help="Share of wealth not to fall below; with --probability."),
    ] = None,
    probability: Annotated[
        float | None, typer.Option(help="Of falling below the floor, ever, at most.")
    ] = None,
    guarantee_periods: GuaranteePeriods = None,
    guarantee_probability: GuaranteeProbability = None,
    spread: Annotated[
        float | None,
        typer.Option(help="Bid-ask spread of an asset traded for ever, a fraction of the ask."),
    ] = None,
    false_alarm: Annotated[
        float | None,
        typer.Option(help="Of a bet: how often an edge that holds may be called gone."),
    ] = None,
    missed: Annotated[
        float | None,
        typer.Option(help="Of a bet: how often one that is gone may be missed."),
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """The Kelly stake of a bet or an asset, how sure it is, and what fractions of it do."""
    from positionsizing.v1 import edge_service_pb2 as pb

    request = pb.EvaluateStakesRequest(
        kelly_fractions=fraction or (),
        wealth_floor=floor,
        floor_probability=probability,
        false_alarm_probability=false_alarm,
        missed_probability=missed,
    )
    if spread is not None:
        request.spread = spread
    if (win_probability is None) == (mean is None):
        raise CommandError(
            "say either what a bet pays or how an asset moves",
            "sizing kelly --win-probability 0.6 --payoff 1, or --mean 0.08 --volatility 0.2",
        )
    if (floor is None) != (probability is None):
        raise CommandError("--floor and --probability go together")
    if (guarantee_periods is None) != (guarantee_probability is None):
        raise CommandError("--guarantee-periods and --guarantee-probability go together")
    if guarantee_periods is not None:
        request.guarantee.periods = guarantee_periods
        request.guarantee.probability = guarantee_probability or 0.0
    if win_probability is not None and payoff is None:
        raise CommandError("--payoff says what a win gains per unit of stake")
    if mean is not None and volatility is None:
        raise CommandError("--volatility says how far the returns of a year vary")
    if win_probability is not None:
        bet = pb.BetEdge(win_probability=win_probability, payoff=payoff or 0.0)
        bet.loss_fraction = loss
        if outcomes is not None:
            bet.outcome_count = outcomes
        request.bet.CopyFrom(bet)
    else:
        asset = pb.AssetEdge(
            expected_return=mean or 0.0, volatility=volatility or 0.0, risk_free_rate=rate
        )
        if years is not None:
            asset.observed_periods = years
        request.asset.CopyFrom(asset)
    with connect(address) as client:
        answer = client.edges.EvaluateStakes(request)
    if as_json:
        print_json(answer)
    else:
        _show(answer, "bets" if win_probability is not None else "years")


def _show(answer: "pb.EvaluateStakesResponse", periods: str) -> None:
    from server.cli.render import table

    sure = f", from {answer.kelly_low:.2%} to {answer.kelly_high:.2%}"
    say(f"full Kelly {answer.kelly:.2%}{sure if answer.HasField('kelly_low') else ''}")
    if answer.HasField("break_even_probability"):
        say(f"fair at a win probability of {answer.break_even_probability:.2%}")
    if not answer.rows:
        say("no bet: there is no edge on this side")
        return
    if any(row.ever_below[0] > 0.0 for row in answer.rows):  # else nothing is ever lost
        say(f"wealth shrinks beyond a stake of {answer.zero_growth_stake:.2%}")
    if answer.HasField("growth_lost"):
        say(f"the error of the estimate costs full Kelly {answer.growth_lost:.3%} of growth")
    if answer.HasField("floor_kelly_fraction"):
        say(f"the floor is kept at {answer.floor_kelly_fraction:.3f} of Kelly")
    if kept := answer.HasField("guaranteed_stake"):
        say(f"most growth is kept at a stake of {answer.guaranteed_stake:.2%}")
    traded = any(row.HasField("traded_safe_rate") for row in answer.rows)
    out = table(
        "Fractions of Kelly",
        *("fraction", "stake", "growth", "deviation", f"{periods} to double", "doubles first"),
        *(f"ever {level:g}" for level in answer.levels),
        *(["growth kept"] if kept else []),
        *(["not traded between", "worth a safe"] if traded else []),
    )
    for row in answer.rows:
        out.add_row(
            f"{row.kelly_fraction:g}",
            f"{row.stake:.2%}",
            f"{row.growth:.3%}" if math.isfinite(row.growth) else "ruin",
            f"{row.growth_volatility:.2%}" if math.isfinite(row.growth_volatility) else "",
            f"{row.doubling_periods:,.1f}" if math.isfinite(row.doubling_periods) else "never",
            f"{row.doubles_before_halving:.1%}",
            *(f"{chance:.1%}" for chance in row.ever_below),
            *([_kept(row)] if kept else []),
            *(_traded(row) if traded else ()),
        )
    console().print(out)
    if periods == "bets":
        say("doubles first: to within one bet, since a large one jumps beyond half or double")
    for line in _evidence(answer, periods):
        say(line)


def _evidence(answer: "pb.EvaluateStakesResponse", periods: str) -> Iterator[str]:
    """How long until results could show that there is an edge, or that it is gone."""
    known = [row for row in answer.rows if 0.0 < row.evidence_periods < math.inf]
    if known:
        # Full Kelly, or what is nearest to it.
        row = min(known, key=lambda item: abs(item.kelly_fraction - 1.0))
        yield (
            f"at {row.kelly_fraction:g} of Kelly growth is two standard errors from 0 after "
            f"{row.evidence_periods:,.0f} {periods}"
        )
    if answer.HasField("sequential_test"):
        test = answer.sequential_test
        yield (
            f"a test whether the edge is gone takes {test.bets_if_gone:,.0f} bets where it is, "
            f"{test.bets_if_it_holds:,.0f} where not"
        )


def _kept(row: "pb.StakeRow") -> str:
    return f"{row.guaranteed_growth:.3%}" if row.HasField("guaranteed_growth") else ""


def _traded(row: "pb.StakeRow") -> tuple[str, str]:
    if not row.HasField("traded_safe_rate"):
        return "", ""
    region = f"{row.no_trade_low:.2%} to {row.no_trade_high:.2%}"
    return region, f"{row.traded_safe_rate:.3%}"
