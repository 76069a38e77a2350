"""What a joint problem optimises, between the contract and the domain."""

from collections.abc import Iterator

from positionsizing.v1 import optimization_service_pb2 as pb

from compute.optimize.problem import Objective, ObjectiveKind
from server.convert.columns import floats
from server.errors import FieldViolation

TERMS_MAX = 16
TAIL_LEVEL = 0.95

_PREFIX = "OBJECTIVE_KIND_"
_NO_TERM = [
    pb.ObjectiveKind.Value(f"{_PREFIX}{kind.name}") for kind in ObjectiveKind if not kind.is_term
]


def violations(message: pb.Objective, n: int, path: str) -> Iterator[FieldViolation]:
    """What is wrong with an objective over n instruments but its numbers, by path below `path`."""
    kind = message.kind
    if not kind or kind not in pb.ObjectiveKind.values():
        yield FieldViolation(f"{path}.kind", "MISSING", "must be given")
    if len(message.budgets) not in (0, n):
        text = f"has {len(message.budgets)} entries for {n} instruments"
        yield FieldViolation(f"{path}.budgets", "LENGTH_MISMATCH", text)
    yield from _term_violations(message, n, path)


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
    )


def message_of(chosen: Objective) -> pb.Objective:
    """The contract's form, every number that the kind reads filled in."""
    kind = pb.ObjectiveKind.Value(f"{_PREFIX}{chosen.kind.name}")
    message = pb.Objective(kind=kind, budgets=chosen.budgets)
    if "risk_aversion" in chosen.kind.reads:
        message.risk_aversion = chosen.risk_aversion
    if "tail" in chosen.kind.reads:
        message.tail_level = chosen.tail
    for weight, term in chosen.terms:
        message.terms.add(weight=weight, objective=message_of(term))
    return message


def _name(kind: pb.ObjectiveKind.ValueType) -> str:
    return pb.ObjectiveKind.Name(kind).removeprefix(_PREFIX)
