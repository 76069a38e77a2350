"""What `sizing performance` says, from answers written here; no line is wider than a terminal."""

import gzip
from pathlib import Path

import pytest
from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import simulation_service_pb2 as simulation
from positionsizing.v1 import types_pb2

from server.cli.analytics import performance_lines, read_exposures
from server.cli.errors import CommandError
from server.cli.labels import limit_and_value


def test_the_first_day_says_that_it_is_early_and_what_to_do() -> None:
    waits = simulation.NamedCount(name="NO_LATER_PRICE", count=1)
    lines = list(performance_lines(pb.AnalyzeDecisionsResponse(left_out=[waits])))
    assert lines[0] == "nothing can be measured yet: no decision has prices after its own"
    assert "sizing market load" in lines[1]
    (nothing,) = performance_lines(pb.AnalyzeDecisionsResponse())
    assert "no decision was made" in nothing


def test_lines_that_left_are_named() -> None:
    gone = [simulation.NamedCount(name=f"N{i}", count=9 - i) for i in range(7)]
    answer = pb.AnalyzeDecisionsResponse(decisions=1, lines=1, unpriced_lines=gone)
    told = list(performance_lines(answer))[1]
    assert told.startswith("left out 42 lines without a later price, as if not held: N0 9, N1 8,")
    assert told.endswith("N4 5 and 2 more")


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


def test_exposures_are_read_like_any_table_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    packed, wrong = tmp_path / "exposures.csv.gz", tmp_path / "wrong.csv"
    packed.write_bytes(gzip.compress(b"instrument_id,SPY,IWM\nKO,0.5,0.1\nXOM,1.1,-0.2\n"))
    told = read_exposures(packed)
    assert (list(told.factor_ids), list(told.instrument_ids)) == (["SPY", "IWM"], ["KO", "XOM"])
    assert list(told.exposures) == [0.5, 0.1, 1.1, -0.2]
    wrong.write_text("instrument_id,SPY,IWM\nKO,0.5,many\n")
    with pytest.raises(CommandError, match="line 2: IWM is 'many', not a number"):
        read_exposures(wrong)


def test_one_of_anything_is_not_many() -> None:
    answer = pb.AnalyzeDecisionsResponse(decisions=1, lines=1)
    assert next(performance_lines(answer)) == "1 decision, 1 line"


def test_large_numbers_have_all_their_digits_whatever_their_unit() -> None:
    kind = types_pb2.LIMIT_KIND_RESTRICTED
    assert limit_and_value(kind, 0.0, 1_277_660.0, "GE")[1] == "1,277,660"
    assert limit_and_value(types_pb2.LIMIT_KIND_QUANTITY_MAX, 1e6, 1_277_660.0)[0] == (
        "at most 1,000,000 units"
    )


def test_what_the_service_watches_of_an_edge_is_said() -> None:
    answer = pb.AnalyzeDecisionsResponse()
    edge = answer.watched_edges.add(
        strategy_id="momentum", decisions=3, bets=12, e_value_gone=7.25, e_value_edge=0.125
    )
    edge.create_time_from.FromJsonString("2026-11-30T20:50:00Z")
    answer.watched_edges.add()
    answer.watched_edges.add(strategy_id="value", is_reduced=True)
    assert [line for line in performance_lines(answer) if line.startswith("watched")] == [
        "watched, strategy momentum: 12 bets since 2026-11-30 20:50, evidence for an edge 0.125, "
        "that it is gone 7.25 (the alert EDGE_GONE comes at 20)",
        "watched, decisions of no strategy: no bets with an outcome yet; the alert EDGE_GONE "
        "comes at 20",
        "watched, strategy value: its edge was gone; nothing counts until trading is resumed",
    ]
