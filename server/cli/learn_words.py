"""Models and what they were worth, in words for a terminal."""

from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from positionsizing.v1 import learning_service_pb2 as pb


def model_lines(model: "pb.Model") -> Iterator[str]:
    """A model and its record in sentences."""
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.labels import enum_words

    report = model.report
    kind = enum_words(pb.ModelKind, model.kind, "MODEL_KIND_")
    stage = enum_words(pb.ModelStage, model.stage, "MODEL_STAGE_")
    yield f"model {model.model_id}: {kind}, {stage}, hash {model.hash[:12]}"
    yield f"features: {', '.join(model.features)} (schema {model.feature_schema_hash[:12]})"
    if model.feature_set_id:
        yield f"reads what it isn't given from set {model.feature_set_id}"
    first = f"{report.tested_from_time.ToDatetime():%Y-%m-%d}"
    yield f"{report.rows} bets, {report.tested_rows} tested out of sample from {first} on"
    kinds = [enum_words(pb.CalibrationKind, k, "CALIBRATION_KIND_") for k in report.calibrations]
    if kinds:
        ridges = ", ".join(f"{ridge:g}" for ridge in report.ridges)
        yield f"calibration {', '.join(kinds)}; ridge {ridges}"
    if len(report.member_kinds) > 1:
        words = [enum_words(pb.ModelKind, k, "MODEL_KIND_") for k in report.member_kinds]
        yield f"members {', '.join(words)}"
    if len(report.weights) > 1:
        weights = ", ".join(f"{weight:.3f}" for weight in report.weights)
        regret = f"; regret {report.regret:.4f} of at most {report.regret_max:.4f}"
        yield f"weights {weights}{regret if report.HasField('regret') else ''}"
    for names, verb in ((report.rising_features, "falls"), (report.falling_features, "rises")):
        if names:
            yield f"never {verb} with {', '.join(names)}"
    if report.HasField("score"):
        yield from score_lines(report.score)
    if report.HasField("paths"):
        yield from _path_lines(report.paths)
    growth = report.growth
    yield f"growth of its bets {growth.mean:+.2e}{_ends(growth)}"
    yield "may go live" if report.is_proven else "has not beaten the bars: may not go live"


def _path_lines(paths: "pb.PathDistribution") -> Iterator[str]:
    count = len(paths.growth)
    yield f"{paths.splits} splits make {count} paths over all bets; they learn from later bets too"
    for name, values in (
        ("growth over climatology", paths.over_climatology),
        ("growth over the odds", paths.over_implied),
        ("growth of its bets", paths.growth),
    ):
        low, *_, high = sorted(values) if count > 1 else [values[0]] * 2
        lost = sum(value <= 0.0 for value in values)
        yield (
            f"  {name}: median {median(values):+.2e}, {low:+.2e} to {high:+.2e}; "
            f"none on {lost} of {count}"
        )


def score_lines(score: "pb.ForecastScore") -> Iterator[str]:
    """What forecasts were worth in sentences."""
    yield (
        f"log loss {score.log_loss:.5f} on {score.rows} bets: miscalibration "
        f"{score.miscalibration:.5f}, which is growth lost a bet, discrimination "
        f"{score.discrimination:.5f} of {score.log_loss_uncertainty:.5f}"
    )
    yield (
        f"Brier score {score.brier:.5f}: reliability {score.reliability:.5f}, resolution "
        f"{score.resolution:.5f} of {score.uncertainty:.5f}, "
        f"within groups {score.within_groups:+.5f}"
    )
    for name, bar in (("climatology", score.climatology), ("the odds", score.implied)):
        verdict = "beaten" if bar.is_beaten else "not beaten"
        yield (
            f"{name} {bar.log_loss:.5f}: growth over it {bar.growth.mean:+.2e} a bet"
            f"{_ends(bar.growth)}, e-value {bar.e_value:.3g}: {verdict}"
        )
    yield f"e-value that the edge is gone {score.e_value_gone:.3g} (20 is strong)"
    if (seen := score.intervals).windows:
        wider = f"{seen.margin:+.3f} wider" if seen.HasField("margin") else "without bounds"
        yield (
            f"90 % intervals for the win rate held {seen.covered:.1%} of {seen.windows} windows, "
            f"adapted ones {seen.conformal_covered:.1%}; the next is {wider} (miss rate "
            f"{seen.miss_rate:.3f})"
        )


def _ends(found: object) -> str:
    low, high = getattr(found, "low", 0.0), getattr(found, "high", 0.0)
    has = found.HasField("low")  # type: ignore[attr-defined]
    return f" ({low:+.2e} to {high:+.2e})" if has else ""
