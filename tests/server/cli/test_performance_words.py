"""What `sizing performance` says, from answers written here; no line is wider than a terminal."""

from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import simulation_service_pb2 as simulation

from server.cli.analytics import performance_lines


def test_the_first_day_says_that_it_is_early_and_what_to_do() -> None:
    waits = simulation.NamedCount(name="NO_LATER_PRICE", count=1)
    lines = list(performance_lines(pb.AnalyzeDecisionsResponse(left_out=[waits])))
    assert lines[0] == "nothing can be measured yet: no decision has prices after its own"
    assert "sizing market load" in lines[1]
    (nothing,) = performance_lines(pb.AnalyzeDecisionsResponse())
    assert "no decision was made" in nothing


def test_evidence_says_how_long_it_takes() -> None:
    evidence = pb.GrowthEvidence(
        growth=1e-3, deviation=1e-2, t_statistic=0.5, decisions_needed=400.0
    )
    answer = pb.AnalyzeDecisionsResponse(decisions=25, lines=50, evidence=evidence)
    assert list(performance_lines(answer)) == [
        "25 decisions, 50 lines",
        "growth a decision +1.00e-03 is 0.5 standard errors from 0 after 25; "
        "two take 400 decisions like these",
    ]
    answer.evidence.t_statistic = 2.5
    assert "two take" not in list(performance_lines(answer))[1]


def test_a_test_of_claims_says_when_it_has_stopped() -> None:
    answer = pb.AnalyzeDecisionsResponse(decisions=1)
    found = answer.bet_forecast.sequential
    found.bets, found.verdict = 40, pb.SEQUENTIAL_VERDICT_GOES_ON
    found.test.bets_if_it_holds, found.test.bets_if_gone = 398.18, 472.86
    assert "40; it takes 398 where they hold, 473 where not" in list(performance_lines(answer))[2]
    found.verdict = pb.SEQUENTIAL_VERDICT_GONE
    assert list(performance_lines(answer))[2] == "test of the claims: they are gone, said after 40"


def test_returns_are_scored_in_a_few_words() -> None:
    answer = pb.AnalyzeDecisionsResponse(decisions=1)
    found = answer.return_forecast
    found.lines, found.crps, found.interval_probability = 4, 0.0125, 0.9
    found.interval_coverage = 0.75
    found.edge_gain.mean = 1e-4
    found.quantiles.add(level=0.05, below=0.25)
    lines = list(performance_lines(answer))
    assert any("CRPS 1.250e-02" in line and "+1.00e-04" in line for line in lines)
    assert any("90% intervals had 75.0%" in line for line in lines)
    assert any("25% under the 5%" in line for line in lines)
