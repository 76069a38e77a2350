"""Custom sizing algorithms between the contract and the domain."""

from collections.abc import Iterator

from positionsizing.v1 import parameter_service_pb2 as pb
from positionsizing.v1 import sizing_pb2

from compute.algorithm import AlgorithmAnswer
from compute.parameters import AlgorithmChoice
from server.calls.errors import FieldViolation
from server.convert.columns import set_floats
from server.convert.names import id_violations

NUMBERS_MAX = 64


def choice(message: pb.AlgorithmChoice) -> AlgorithmChoice:
    """The domain's choice; the message has been checked (`violations`)."""
    return AlgorithmChoice(
        message.name, tuple((item.name, item.value) for item in message.parameters)
    )


def message_of(chosen: AlgorithmChoice) -> pb.AlgorithmChoice:
    """The contract's form."""
    numbers = [pb.AlgorithmParameter(name=name, value=value) for name, value in chosen.parameters]
    return pb.AlgorithmChoice(name=chosen.name, parameters=numbers)


def violations(message: pb.AlgorithmChoice, path: str) -> Iterator[FieldViolation]:
    """What is wrong with a choice but its numbers, by field path below `path`."""
    yield from id_violations(message.name, f"{path}.name")
    if len(message.parameters) > NUMBERS_MAX:
        text = f"has {len(message.parameters)} entries; at most {NUMBERS_MAX} are accepted"
        yield FieldViolation(f"{path}.parameters", "TOO_MANY", text)
        return
    seen: set[str] = set()
    for place, item in enumerate(message.parameters):
        where = f"{path}.parameters[{place}].name"
        yield from id_violations(item.name, where)
        if item.name in seen:
            yield FieldViolation(where, "DUPLICATE", f"{item.name!r} is given twice")
        seen.add(item.name)


def tell(head: sizing_pb2.SizingDecision, answer: AlgorithmAnswer | None) -> None:
    """Writes into a decision what an algorithm answered, and what became of it."""
    if answer is None:
        return
    head.algorithm.name = answer.name
    head.algorithm.version = answer.version
    head.algorithm.sha256 = answer.sha256
    head.algorithm.tier = sizing_pb2.AlgorithmTier.ValueType(answer.tier)
    head.algorithm.failure = answer.failure
    head.algorithm.failure_message = answer.failure_message
    set_floats(head.algorithm, "weight", answer.weight)
