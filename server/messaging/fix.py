"""FIX 4.4 execution reports as fills: what an execution venue's drop copy says of orders of ours.

Messages stand one after the other, their fields separated by SOH, or by `|` as logs
have them. Only trades (35=8, 150=F) are fills. A session with a counterparty is not for us.
"""

import re
from collections.abc import Iterator
from math import isinf
from uuid import UUID

import simplefix

from server.messaging.executions import Execution, Unbooked

SOH = b"\x01"
_SIGN = {"1": 1.0, "2": -1.0, "5": -1.0, "6": -1.0}
_ABSOLUTE = "3"
_START = re.compile(rb"8=FIX[^\x01]*\x01")
_HEAD = re.compile(rb"8=FIX[^\x01]*\x019=(\d{1,18})\x01")
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)", re.ASCII)
"""FIX's float: no exponent, no infinity."""


def read_reports(data: bytes, decision_tag: int = 11) -> Iterator[Execution | Unbooked]:
    """Fills and problems, in order. Messages that are no trades are left out.

    decision_tag: the field that begins with the decision's id, a UUID, as the order was sent with;
    11 is ClOrdID.
    """
    if SOH not in data:
        data = data.replace(b"|", SOH)
    starts = [found.start() for found in _START.finditer(data)]
    for number, (start, end) in enumerate(
        zip(starts, [*starts[1:], len(data)], strict=True), start=1
    ):
        raw, where = data[start:end], f"message {number}"
        if (wrong := _broken(raw)) is not None:
            yield Unbooked(where, "", "BROKEN_MESSAGE", wrong)
            continue
        try:
            message = _parsed(raw)
        except simplefix.errors.ParsingError as error:
            words = f"it can't be read: {type(error).__name__} {error}"
            yield Unbooked(where, "", "BROKEN_MESSAGE", words)
            continue
        if message is None or _text(message, 35) != "8":
            continue
        kind = _text(message, 150)
        if kind in ("H", "G"):
            what = "takes back" if kind == "H" else "corrects"
            text = f"{what} execution {_text(message, 19)}; correct the holdings with SetHoldings"
            yield Unbooked(where, "", "TRADE_CHANGED", text)
        elif kind == "F":
            yield _fill(message, where, decision_tag)


def _broken(raw: bytes) -> str | None:
    """What is wrong with the checksum or the length; None where both are right."""
    body, found, tail = raw.rpartition(b"\x0110=")
    if not found:
        return "it has no checksum (10): is it cut off?"
    told = tail.strip().partition(SOH)[0]
    counted = sum(body + SOH) % 256
    if told != b"%03d" % counted:
        return f"its checksum is {told.decode(errors='replace')}, not {counted:03d}"
    if (head := _HEAD.match(raw)) is None:
        return "its second field is not its length (9)"
    length = len(body) + 1 - head.end()
    if int(head[1]) != length:
        return f"its length is {length}, not {head[1].decode()}"
    return None


def _number(text: str) -> float:
    """Raises `ValueError` for what is no number in FIX."""
    if not _NUMBER.fullmatch(text) or isinf(number := float(text)):
        raise ValueError(text)
    return number


def _parsed(raw: bytes) -> simplefix.FixMessage | None:
    parser = simplefix.FixParser()
    parser.append_buffer(raw)
    return parser.get_message()


def _fill(message: simplefix.FixMessage, where: str, decision_tag: int) -> Execution | Unbooked:
    text = _text(message, decision_tag)
    try:
        decision_id = str(UUID(text[:36]))
    except ValueError:
        words = f"field {decision_tag} is {text[:40]!r}: it begins with no decision id"
        return Unbooked(where, "", "NO_DECISION", words)
    numbers: dict[str, float] = {}
    for name, tag in (("LastQty (32)", 32), ("LastPx (31)", 31)):
        try:
            numbers[name] = _number(_text(message, tag))
        except ValueError:
            words = f"{name} is {_text(message, tag)[:40]!r}, no number"
            return Unbooked(where, "", "BAD_NUMBER", words)
    if numbers["LastQty (32)"] < 0.0:
        text = "LastQty (32) is below 0: Side (54) says what was sold"
        return Unbooked(where, "", "BAD_NUMBER", text)
    sign, execution_id = _SIGN.get(_text(message, 54)), _text(message, 17)
    if sign is None or not execution_id or not _text(message, 55):
        words = "it needs ExecID (17), Symbol (55), and Side (54) 1, 2, 5 or 6"
        return Unbooked(where, "", "MISSING", words)
    fee = 0.0
    if _text(message, 13) == _ABSOLUTE:
        try:
            fee = _number(_text(message, 12))
        except ValueError:
            return Unbooked(where, "", "BAD_NUMBER", "Commission (12) is no number")
    return Execution(
        where=where,
        execution_id=execution_id,
        decision_id=decision_id,
        instrument_id=_text(message, 55),
        quantity=sign * numbers["LastQty (32)"],
        price=numbers["LastPx (31)"],
        fee=fee,
        fee_currency=_text(message, 479) if fee else "",
    )


def _text(message: simplefix.FixMessage, tag: int) -> str:
    value = message.get(tag)
    return "" if value is None else value.decode(errors="replace")
