"""What a corporate action does to the newest market of each universe that has the instrument."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
from positionsizing.v1 import corporate_action_pb2 as action_pb
from positionsizing.v1 import market_service_pb2 as pb

from compute.money.contracts import ContractKind
from compute.money.corporate_actions import Change
from server.calls.errors import Refusal, invalid, precondition
from server.convert import corporate_action as convert
from server.convert.names import timestamp
from server.market import price_jumps
from server.portfolios.portfolio_state import universe_words
from storage.errors import NotFound
from storage.postgres import market
from storage.postgres import price_jumps as jump_storage
from storage.postgres.market import MarketSnapshot
from storage.postgres.price_jumps import JumpKind, PriceJump


@dataclass(frozen=True)
class Plan:
    """An action over the newest market of a universe.

    place: of the instrument; change: with its old multiplier; is_shown: the market's prices show it
    already; after: the market that shows it.
    """

    action: action_pb.CorporateAction
    time: datetime
    change: Change
    newest: pb.MarketSnapshot
    place: int
    is_shown: bool
    after: pb.MarketSnapshot

    @property
    def universe_id(self) -> str:
        """The universe."""
        return self.newest.universe_id

    @property
    def instrument_id(self) -> str:
        """The instrument."""
        return self.action.instrument_id

    @property
    def kind(self) -> str:
        """SPLIT and so on."""
        return str(self.action.WhichOneof("action")).upper()


@dataclass(frozen=True)
class _Seen:
    """The newest market of a universe, and whether it shows an action on what is at `place`."""

    stored: MarketSnapshot
    message: pb.MarketSnapshot
    place: int
    is_shown: bool


async def planned(
    connection: asyncpg.Connection,
    tenant_id: str,
    asked: action_pb.CorporateAction,
    given: datetime | None,
    request_id: UUID,
) -> list[Plan]:
    """A plan for each universe that has the instrument, by universe; all of one time and change.

    given: when it took effect; None: when the prices begin to show it, or now. Raises `Refusal`.
    """
    stored = await market.latest_with(connection, tenant_id, asked.instrument_id)
    if not stored:
        raise await _unknown(connection, tenant_id)
    seen = [await _seen(connection, tenant_id, item, asked, given) for item in stored]
    time = given or _time_of(seen)
    action = action_pb.CorporateAction()
    action.CopyFrom(asked)
    action.effective_time.CopyFrom(timestamp(time))
    plans = []
    for number, item in enumerate(seen):
        newest, place = item.message, item.place
        _check_kind(action, newest, place)
        old = convert.of_instrument(newest, "multiplier", place, 1.0)
        if item.is_shown and action.WhichOneof("action") == "multiplier_change":
            old = await _multiplier_before(connection, tenant_id, newest.universe_id, action, time)
        change = convert.change_of(action, old)
        mark = f"ca-{str(request_id)[:8]}" + (f"-{number}" if number else "")
        after = newest
        if not item.is_shown:
            after = convert.successor(newest, place, change, mark, time)
        plans.append(Plan(action, time, change, newest, place, item.is_shown, after))
    _check_one_change(plans)
    return plans


async def accept_shown(connection: asyncpg.Connection, tenant_id: str, plan: Plan) -> None:
    """Accepts a price that jumped to where the action puts it."""
    jump = await _jump(connection, tenant_id, plan.newest.snapshot_id, plan.instrument_id)
    if jump is None:
        return
    expected = plan.change.price(jump.accepted)
    if await _is_near(connection, tenant_id, plan.newest.price[plan.place], expected):
        named = (tenant_id, plan.newest.snapshot_id, [plan.instrument_id])
        await jump_storage.accept(connection, *named)


async def _seen(
    connection: asyncpg.Connection,
    tenant_id: str,
    stored: MarketSnapshot,
    action: action_pb.CorporateAction,
    given: datetime | None,
) -> _Seen:
    message, name = pb.MarketSnapshot.FromString(stored.payload), action.instrument_id
    place = convert.place_of(message, name)
    if given is not None:
        shown = convert.shown_until(message)
        is_shown = convert.shown_to(shown, name, stored.as_of_time) >= given
        return _Seen(stored, message, place, is_shown)
    jump = await _jump(connection, tenant_id, stored.snapshot_id, name)
    if jump is None:
        return _Seen(stored, message, place, is_shown=False)
    old = convert.of_instrument(message, "multiplier", place, 1.0)
    expected = convert.change_of(action, old).price(jump.accepted)
    is_shown = await _is_near(connection, tenant_id, message.price[place], expected)
    return _Seen(stored, message, place, is_shown)


def _time_of(seen: Sequence[_Seen]) -> datetime:
    """When an action took effect that has no time: with the first prices that show it, or now."""
    shown = [item for item in seen if item.is_shown]
    if not shown:
        return datetime.now(UTC)
    if len(shown) < len(seen):
        other = next(item for item in seen if not item.is_shown)
        text = (
            f"must be given: the newest market snapshot {shown[0].stored.snapshot_id!r} shows the "
            f"action, {other.stored.snapshot_id!r} of {universe_words(other.message.universe_id)} "
            "does not"
        )
        raise invalid("action.effective_time", "MISSING", text)
    return min(item.stored.as_of_time for item in shown)


def _check_one_change(plans: Sequence[Plan]) -> None:
    """Raises `Refusal` where multipliers differ, so that it would be another change in each."""
    for other in plans[1:]:
        if other.change != plans[0].change:
            words = [universe_words(item.universe_id) for item in (plans[0], other)]
            text = (
                f"the newest market snapshots of {words[0]} and of {words[1]} have other "
                f"multipliers of {other.instrument_id!r}: store ones that agree first"
            )
            raise precondition("MULTIPLIERS_DIFFER", text)


async def _unknown(connection: asyncpg.Connection, tenant_id: str) -> Refusal:
    if not await market.list_snapshots(connection, tenant_id, limit=1):
        return precondition("NO_MARKET", "there is no market snapshot yet")
    text = "is in no newest market snapshot, of whichever universe"
    return invalid("action.instrument_id", "UNKNOWN_INSTRUMENT", text)


async def _jump(
    connection: asyncpg.Connection, tenant_id: str, snapshot_id: str, instrument_id: str
) -> PriceJump | None:
    found = await jump_storage.of_snapshot(connection, tenant_id, snapshot_id)
    wanted = (JumpKind.PRICE, instrument_id)
    return next((jump for jump in found if (jump.kind, jump.name) == wanted), None)


async def _is_near(
    connection: asyncpg.Connection, tenant_id: str, price: float, expected: float
) -> bool:
    bound = await price_jumps.jump_max(connection, tenant_id)
    return expected > 0.0 and abs(price - expected) <= bound * expected


async def _multiplier_before(
    connection: asyncpg.Connection,
    tenant_id: str,
    universe_id: str,
    action: action_pb.CorporateAction,
    time: datetime,
) -> float:
    before = time - timedelta(microseconds=1)
    try:
        stored = await market.latest_snapshot(connection, tenant_id, universe_id, time=before)
    except NotFound as error:
        text = "no market snapshot from before it says the old multiplier"
        raise precondition("NO_MARKET", text) from error
    earlier = pb.MarketSnapshot.FromString(stored.payload)
    place = convert.place_of(earlier, action.instrument_id)
    if place < 0:
        text = "the market snapshot before it doesn't have the instrument"
        raise precondition("NO_MARKET", text)
    return convert.of_instrument(earlier, "multiplier", place, 1.0)


def _check_kind(action: action_pb.CorporateAction, snapshot: pb.MarketSnapshot, place: int) -> None:
    """Raises `Refusal` for what the contract of the instrument doesn't have."""
    kind = int(snapshot.contract_kind[place]) if len(snapshot.contract_kind) else 0
    name = action.WhichOneof("action")
    if kind == ContractKind.INVERSE_FUTURE and name in ("split", "cash_dividend"):
        raise invalid(f"action.{name}", "NOT_APPLICABLE", "is not for inverse futures")
    if kind in (ContractKind.FUTURE, ContractKind.INVERSE_FUTURE) and name != "cash_dividend":
        policy = getattr(getattr(action, str(name)), "fraction_policy", 0)
        if policy == action_pb.FRACTION_POLICY_PAY_CASH:
            where = f"action.{name}.fraction_policy"
            raise invalid(where, "NOT_APPLICABLE", "parts of futures are kept: KEEP")
