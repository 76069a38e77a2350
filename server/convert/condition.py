"""Rules on market conditions between the contract and the domain."""

from collections.abc import Iterator

from positionsizing.v1 import parameter_service_pb2 as pb

from compute.adapt.condition import ConditionRule, ConditionScope
from server.calls.errors import FieldViolation
from server.convert.names import (
    id_violations,
    some_instruments_violations,
    text_violations,
)

RULES_MAX = 100
AGE_MAX_S = 3650 * 86400.0


def rules(message: pb.ConditionRules) -> tuple[ConditionRule, ...]:
    """The domain's rules; the message has been checked (`violations`)."""
    return tuple(
        ConditionRule(
            name=rule.name,
            condition_id=rule.condition_id,
            multiplier=rule.multiplier,
            enter=rule.enter if rule.HasField("enter") else None,
            leave=rule.leave if rule.HasField("leave") else None,
            categories=tuple(rule.categories),
            dwell=rule.dwell,
            age_max_s=_seconds(rule) if rule.HasField("age_max") else None,
            stale_multiplier=rule.stale_multiplier,
            rise_max=rule.rise_max if rule.HasField("rise_max") else None,
            scope=ConditionScope(rule.scope),
            instrument_ids=tuple(rule.instrument_ids),
        )
        for rule in message.rules
    )


def message_of(found: tuple[ConditionRule, ...]) -> pb.ConditionRules:
    """The contract's form."""
    message = pb.ConditionRules()
    for rule in found:
        row = message.rules.add(
            name=rule.name,
            condition_id=rule.condition_id,
            multiplier=rule.multiplier,
            enter=rule.enter,
            leave=rule.leave,
            categories=rule.categories,
            dwell=rule.dwell,
            stale_multiplier=rule.stale_multiplier,
            rise_max=rule.rise_max,
            scope=pb.ConditionScope.ValueType(rule.scope),
            instrument_ids=rule.instrument_ids,
        )
        if rule.age_max_s is not None:
            row.age_max.FromNanoseconds(round(rule.age_max_s * 1e9))
    return message


def violations(message: pb.ConditionRules, path: str) -> Iterator[FieldViolation]:
    """What is wrong with rules but their numbers, by field path."""
    if len(message.rules) > RULES_MAX:
        text = f"has {len(message.rules)} entries; at most {RULES_MAX} are accepted"
        yield FieldViolation(f"{path}.rules", "TOO_MANY", text)
        return
    for place, rule in enumerate(message.rules):
        yield from _rule_violations(rule, f"{path}.rules[{place}]")


def _rule_violations(rule: pb.ConditionRule, path: str) -> Iterator[FieldViolation]:
    if not rule.name:
        yield FieldViolation(f"{path}.name", "MISSING", "must be given")
    yield from text_violations(rule.name, f"{path}.name")
    yield from id_violations(rule.condition_id, f"{path}.condition_id")
    numbers = rule.HasField("enter"), rule.HasField("leave")
    if numbers[0] != numbers[1]:
        missing = "leave" if numbers[0] else "enter"
        yield FieldViolation(f"{path}.{missing}", "MISSING", "give both thresholds, or neither")
    if any(numbers) == bool(rule.categories):
        text = "give either the thresholds enter and leave, or categories"
        yield FieldViolation(f"{path}.enter", "AMBIGUOUS" if any(numbers) else "MISSING", text)
    for number, text in enumerate(rule.categories):
        yield from category_violations(text, f"{path}.categories[{number}]")
        if text in rule.categories[:number]:
            said = f"{text[:40]!r} is given twice"
            yield FieldViolation(f"{path}.categories[{number}]", "DUPLICATE", said)
    where = f"{path}.instrument_ids"
    yield from some_instruments_violations(rule.instrument_ids, where)
    if rule.scope not in pb.ConditionScope.values():
        yield FieldViolation(f"{path}.scope", "UNKNOWN_VALUE", "is not known")
    if rule.scope == pb.CONDITION_SCOPE_INSTRUMENT and not rule.instrument_ids:
        text = "must be given with scope INSTRUMENT: whose observations the rule looks at"
        yield FieldViolation(where, "MISSING", text)
    if rule.HasField("age_max") and not 1.0 <= _seconds(rule) <= AGE_MAX_S:
        text = f"is {_seconds(rule):g} s; it must be from 1 s to 3650 days"
        yield FieldViolation(f"{path}.age_max", "OUT_OF_RANGE", text)


def _seconds(rule: pb.ConditionRule) -> float:
    return float(rule.age_max.seconds + rule.age_max.nanos * 1e-9)


def category_violations(text: str, path: str) -> Iterator[FieldViolation]:
    """Of a category, observed or looked for: a name as it is written, not blank."""
    yield from text_violations(text, path)
    if text != text.strip() or not text:
        said = f"is {text[:40]!r}; it must be a name without blanks around it"
        yield FieldViolation(path, "BAD_FORMAT", said)
