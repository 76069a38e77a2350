"""Limits that a book is beyond, as an answer."""

from positionsizing.v1 import portfolio_service_pb2 as pb
from positionsizing.v1 import types_pb2

from server.convert.names import timestamp
from server.portfolios.limit_monitor import LimitCheck


def limit_check(check: LimitCheck) -> pb.GetBreachesResponse:
    """What was found and what could not be looked at."""
    answer = pb.GetBreachesResponse(market_snapshot_id=check.snapshot_id)
    answer.not_checked.extend(check.unknown)
    for item in check.found:
        breach = answer.breaches.add(
            kind=types_pb2.LimitKind.ValueType(int(item.breach.kind)),
            limit=item.breach.name,
            bound=item.breach.bound,
            value=item.breach.value,
            instrument_ids=item.members,
            only_reserved=item.only_reserved,
            is_lower_bound=item.breach.is_lower_bound,
        )
        if item.begin_time is not None:
            breach.begin_time.CopyFrom(timestamp(item.begin_time))
    return answer
