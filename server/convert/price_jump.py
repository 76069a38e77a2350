"""What a snapshot quotes, and what of it jumped, as messages."""

from collections.abc import Iterable, Iterator

from positionsizing.v1 import market_service_pb2 as pb

from server.convert.market import Snapshot
from server.convert.names import timestamp
from storage.postgres.price_jumps import JumpKind, PriceJump

Key = tuple[JumpKind, str]


def quotes(snapshot: Snapshot) -> Iterator[tuple[Key, float]]:
    """The prices as quoted and the rates of a snapshot, each pair in the order of its codes."""
    message = snapshot.message
    for name, price in zip(message.instrument_ids, message.price, strict=True):
        yield (JumpKind.PRICE, name), price
    for name, price in zip(message.instrument_ids, message.underlying_price, strict=False):
        if price > 0.0:  # 0: it has none
            yield (JumpKind.UNDERLYING, name), price
    for item in message.exchange_rates:
        first, second = item.from_currency, item.to_currency
        if first <= second:
            yield (JumpKind.RATE, f"{first}/{second}"), item.rate
        else:
            yield (JumpKind.RATE, f"{second}/{first}"), 1.0 / item.rate


def messages(snapshot: Snapshot, jumped: Iterable[PriceJump]) -> Iterator[pb.PriceJump]:
    """Jumps of a snapshot as messages."""
    value = dict(quotes(snapshot))
    for item in jumped:
        is_rate = item.kind is JumpKind.RATE
        yield pb.PriceJump(
            instrument_id="" if is_rate else item.name,
            currency_pair=item.name if is_rate else "",
            is_underlying=item.kind is JumpKind.UNDERLYING,
            price=value[item.kind, item.name],
            accepted_price=item.accepted,
            accepted_time=timestamp(item.accepted_time),
        )
