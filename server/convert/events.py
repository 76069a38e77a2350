"""Events that go out, encoded; what other messages are made of is in their own modules."""

from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum

from positionsizing.v1 import analytics_service_pb2, events_pb2, sizing_pb2, types_pb2

from compute.adapt.moves import Move
from compute.analytics.running_evidence import RunningEvidence
from compute.limits.breaches import Breach
from server.convert.names import timestamp
from server.convert.portfolio import reservation_message
from storage.postgres.reservations import Reservation


class Severity(IntEnum):
    """How much an alert matters. The numbers are those of the contract."""

    INFO = events_pb2.ALERT_SEVERITY_INFO
    WARNING = events_pb2.ALERT_SEVERITY_WARNING
    CRITICAL = events_pb2.ALERT_SEVERITY_CRITICAL


def alert_event(
    severity: Severity, reason: str, message: str, subject: str, time: datetime
) -> bytes:
    """Alert."""
    return events_pb2.Alert(
        severity=events_pb2.AlertSeverity.ValueType(severity),
        reason=reason,
        message=message,
        subject=subject,
        create_time=timestamp(time),
    ).SerializeToString()


def alert_text(payload: bytes) -> str:
    """What an encoded Alert says."""
    return events_pb2.Alert.FromString(payload).message


def limit_breached(
    sequence: int,
    portfolio_id: str,
    breach: Breach,
    snapshot_id: str,
    found_by: str,
    time: datetime,
    members: Sequence[str],
    *,
    only_reserved: bool,
) -> bytes:
    """LimitBreached; `members` of a cluster."""
    return events_pb2.LimitBreached(
        portfolio_sequence=sequence,
        portfolio_id=portfolio_id,
        limit=breach.name,
        kind=types_pb2.LimitKind.ValueType(int(breach.kind)),
        bound=breach.bound,
        value=breach.value,
        detect_time=timestamp(time),
        market_snapshot_id=snapshot_id,
        found_by=found_by,
        instrument_ids=members,
        is_lower_bound=breach.is_lower_bound,
        only_reserved=only_reserved,
    ).SerializeToString()


def effective_parameters_changed(
    sequence: int,
    owner: tuple[str, str],
    fractions: tuple[float, float],
    moved: Sequence[Move],
    time: datetime,
) -> bytes:
    """EffectiveParametersChanged; owner: portfolio and strategy, fractions: before and now."""
    event = events_pb2.EffectiveParametersChanged(
        portfolio_sequence=sequence,
        portfolio_id=owner[0],
        strategy_id=owner[1],
        kelly_fraction_before=fractions[0],
        kelly_fraction=fractions[1],
        detect_time=timestamp(time),
    )
    for item in moved:
        source, name, instrument_id = item.key
        event.moves.add(
            source=sizing_pb2.AdjustmentSource.ValueType(int(source)),
            name=name,
            instrument_id=instrument_id,
            multiplier_before=item.before,
            multiplier=item.after,
            explanation=item.explanation,
        )
    return event.SerializeToString()


def sizing_analyzed(
    sequence: int,
    request: analytics_service_pb2.AnalyzeDecisionsRequest,
    analysis: analytics_service_pb2.AnalyzeDecisionsResponse,
    so_far: tuple[datetime, RunningEvidence] | None,
    time: datetime,
) -> bytes:
    """SizingAnalyzed; so_far: evidence, and when its first decision was made."""
    event = events_pb2.SizingAnalyzed(
        portfolio_sequence=sequence,
        request=request,
        analysis=analysis,
        analyze_time=timestamp(time),
    )
    if so_far is not None:
        begin, found = so_far
        event.evidence.create_time_from.CopyFrom(timestamp(begin))
        event.evidence.decisions, event.evidence.bets = found.decisions, found.bets
        event.evidence.e_value_gone = found.e_value_gone
        event.evidence.e_value_edge = found.e_value_edge
    return event.SerializeToString()


def reservation_expired(sequence: int, reservation: Reservation) -> bytes:
    """ReservationExpired."""
    return events_pb2.ReservationExpired(
        portfolio_sequence=sequence,
        decision_id=str(reservation.decision_id),
        portfolio_id=reservation.portfolio_id,
        released=reservation_message(reservation),
        expire_time=timestamp(reservation.expire_time),
    ).SerializeToString()
