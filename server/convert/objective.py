"""What a joint problem optimises, between the contract and the domain."""

from collections.abc import Iterator

from positionsizing.v1 import optimization_service_pb2 as pb

from compute.optimize.problem import Objective, ObjectiveKind
from server.calls.errors import FieldViolation
from server.convert.columns import floats
from server.convert.names import text_violations

TERMS_MAX = 16
TAIL_LEVEL = 0.95

_PREFIX = "OBJECTIVE_KIND_"
_NO_TERM = [
    pb.ObjectiveKind.Value(f"{_PREFIX}{kind.name}") for kind in ObjectiveKind if not kind.is_term
]
_SIZED = (pb.OBJECTIVE_KIND_RISK_BUDGET, pb.OBJECTIVE_KIND_MAX_DIVERSIFICATION)


def violations(message: pb.Objective, n: int, path: str) -> Iterator[FieldViolation]:
    """What is wrong with an objective over n instruments but its numbers, by path below `path`."""
    kind = message.kind
    if not kind or kind not in pb.ObjectiveKind.values():
        yield FieldViolation(f"{path}.kind", "MISSING", "must be given")
    if len(message.budgets) not in (0, n):
        text = f"has {len(message.budgets)} entries for {n} instruments"
        yield FieldViolation(f"{path}.budgets", "LENGTH_MISMATCH", text)
    yield from _term_violations(message, n, path)
    yield from _stored_violations(message, path, is_stored=n == 0)


def _stored_violations(
    message: pb.Objective, path: str, *, is_stored: bool
) -> Iterator[FieldViolation]:
    """Of what is for sizing parameters, or not."""
    if message.HasField("gross_weight") and not (is_stored and message.kind in _SIZED):
        text = "is for RISK_BUDGET and MAX_DIVERSIFICATION in sizing parameters"
        yield FieldViolation(f"{path}.gross_weight", "NOT_APPLICABLE", text)
    if not message.shares:
        return
    if not is_stored or message.kind != pb.OBJECTIVE_KIND_RISK_BUDGET:
        text = "are for RISK_BUDGET in sizing parameters; OptimizePortfolio takes budgets"
        yield FieldViolation(f"{path}.shares", "NOT_APPLICABLE", text)
    names = [share.instrument_id for share in message.shares]
    for place, name in enumerate(names):
        where = f"{path}.shares[{place}].instrument_id"
        yield from text_violations(name, where)
        if not name:
            yield FieldViolation(where, "MISSING", "must be given")
        elif name in names[:place]:
            yield FieldViolation(where, "DUPLICATE", f"{name!r} is given twice")


def _term_violations(message: pb.Objective, n: int, path: str) -> Iterator[FieldViolation]:
    where, count = f"{path}.terms", len(message.terms)
    if message.kind != pb.OBJECTIVE_KIND_COMBINATION:
        if count:
            yield FieldViolation(where, "NOT_APPLICABLE", "are for kind COMBINATION only")
        return
    if not 1 <= count <= TERMS_MAX:
        text = f"has {count} entries; a combination has 1 to {TERMS_MAX}"
        yield FieldViolation(where, "OUT_OF_RANGE", text)
    for place, term in enumerate(message.terms):
        if term.objective.kind in _NO_TERM:
            name = _name(term.objective.kind)
            text = f"{name} cannot be part of a combination"
            yield FieldViolation(f"{where}[{place}].objective.kind", "NOT_APPLICABLE", text)
        else:
            yield from violations(term.objective, n, f"{where}[{place}].objective")


def objective(message: pb.Objective) -> Objective:
    """The domain's objective; the message has been checked (`violations`)."""
    budgets = floats(message.budgets)
    return Objective(
        ObjectiveKind[_name(message.kind)],
        risk_aversion=message.risk_aversion if message.HasField("risk_aversion") else 1.0,
        tail=message.tail_level if message.HasField("tail_level") else TAIL_LEVEL,
        budgets=budgets if len(budgets) else None,
        terms=tuple((term.weight, objective(term.objective)) for term in message.terms),
        shares=tuple((share.instrument_id, share.budget) for share in message.shares),
        gross_weight=message.gross_weight if message.HasField("gross_weight") else None,
    )


def message_of(chosen: Objective) -> pb.Objective:
    """The contract's form, every number that the kind reads filled in."""
    kind = pb.ObjectiveKind.Value(f"{_PREFIX}{chosen.kind.name}")
    message = pb.Objective(kind=kind, budgets=chosen.budgets)
    if "risk_aversion" in chosen.kind.reads:
        message.risk_aversion = chosen.risk_aversion
    if "tail" in chosen.kind.reads:
        message.tail_level = chosen.tail
    for name, budget in chosen.shares:
        message.shares.add(instrument_id=name, budget=budget)
    if chosen.gross_weight is not None:
        message.gross_weight = chosen.gross_weight
    for weight, term in chosen.terms:
        message.terms.add(weight=weight, objective=message_of(term))
    return message


def _name(kind: pb.ObjectiveKind.ValueType) -> str:
    return pb.ObjectiveKind.Name(kind).removeprefix(_PREFIX)
