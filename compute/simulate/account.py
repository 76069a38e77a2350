"""The account of a backtest: cash and units through splits, dividends, fills and nights.

Each function takes an account and returns the next one. Order within a session: `corporate_actions`
and `delist` before the open, `fill` at the open, `night` after the close.
"""

from dataclasses import dataclass, replace

import numpy as np

from compute.limits.rounded_lots import NEAR_LOT, NEAR_SIZE_MAX
from compute.market import Floats


@dataclass(frozen=True)
class TradingCosts:
    """What trading and holding cost.

    commission_fixed: money a trade; commission_rate, slippage_rate: fractions of the notional, the
    latter against the trader on the price. credit_rate on free cash, debit_rate on borrowed cash,
    borrow_rate on the value of short positions: a year of `days_per_year` nights.
    """

    commission_fixed: float = 0.0
    commission_rate: float = 0.0
    slippage_rate: float = 0.0
    credit_rate: float = 0.0
    debit_rate: float = 0.0
    borrow_rate: float = 0.0
    days_per_year: float = 360.0


@dataclass(frozen=True)
class Account:
    """cash in money, units signed (m,); what was paid and earned since the start, in money.

    delistings: received for what was held of delisted instruments, less paid for shorts of them;
    delisted: how many positions that were. fractions: received for the parts of a unit that splits
    left, less paid for those of shorts.
    """

    cash: float
    units: Floats
    commission: float = 0.0
    slippage: float = 0.0
    dividends: float = 0.0
    interest: float = 0.0
    borrow: float = 0.0
    delistings: float = 0.0
    delisted: int = 0
    fractions: float = 0.0

    def equity(self, price: Floats) -> float:
        """Cash plus the value of all units; a position without a price counts nothing."""
        return self.cash + float(np.where(self.units != 0.0, price, 0.0) @ self.units)


def corporate_actions(
    account: Account,
    dividend: Floats | None,
    split: Floats | None,
    before: Floats,
    lot_size: float = 1.0,
) -> Account:
    """Dividends on units held at the close before, then splits of them. Shorts pay the dividend.

    A part of a unit that a split leaves, or of a lot where that is smaller, is paid in cash at the
    price after it, `before / split`, as live `FRACTION_POLICY_PAY_CASH` does. before: the last
    closes known before this session, (m,).
    """
    if dividend is not None:
        paid = float(np.nan_to_num(dividend) @ account.units)
        account = replace(account, cash=account.cash + paid, dividends=account.dividends + paid)
    if split is not None:
        exact = account.units * np.nan_to_num(split, nan=1.0)
        units = split_into(account.units, split, min(lot_size, 1.0))
        price = np.where(exact != units, before / split, 0.0)
        paid = float(price @ (exact - units))
        account = replace(
            account,
            cash=account.cash + paid,
            units=units,
            fractions=account.fractions + paid,
        )
    return account


def split_into(units: Floats, split: Floats, step: float) -> Floats:
    """Units (m,) after a split, whole multiples of `step` towards 0; as they are where it is 1.

    Within a billionth of a whole number they are that number: 30 / 10 x 0.1 leaves no part.
    """
    ratio = np.nan_to_num(split, nan=1.0)
    exact = units * ratio / step
    nearest = np.round(exact)
    is_near = np.abs(exact - nearest) <= NEAR_LOT * np.clip(np.abs(exact), 1.0, NEAR_SIZE_MAX)
    whole = np.where(is_near, nearest, np.trunc(exact)) * step
    return np.asarray(np.where(ratio == 1.0, units, whole))


def in_lots(units: Floats, lot_size: float) -> Floats:
    """Units (m,), those within a billionth of whole lots as these."""
    exact = units / lot_size
    nearest = np.round(exact)
    is_near = np.abs(exact - nearest) <= NEAR_LOT * np.clip(np.abs(exact), 1.0, NEAR_SIZE_MAX)
    return np.asarray(np.where(is_near, nearest * lot_size, units))


def delist(account: Account, price: Floats | None) -> Account:
    """Closes what is held where `price` is not NaN, at it, without fees; None: nothing anywhere."""
    if price is None:
        return account
    closed = ~np.isnan(price) & (account.units != 0.0)
    paid = float(np.where(closed, price, 0.0) @ account.units)
    return replace(
        account,
        cash=account.cash + paid,
        units=np.where(closed, 0.0, account.units),
        delistings=account.delistings + paid,
        delisted=account.delisted + int(np.count_nonzero(closed)),
    )


def fill(
    account: Account, trade: Floats, price: Floats, costs: TradingCosts, lot_size: float = 1.0
) -> Account:
    """Books trades, signed units (m,), at `price` and what slippage adds to it.

    Units within a billionth of whole lots are those: what sums of 0.001 lose would count as a part
    of a lot, which a limit leaves no way to close.
    """
    notional = np.abs(trade) * np.where(trade != 0.0, price, 0.0)
    slipped = costs.slippage_rate * float(notional.sum())
    executed = np.where(trade != 0.0, price * (1.0 + costs.slippage_rate * np.sign(trade)), 0.0)
    commission = costs.commission_fixed * float(np.count_nonzero(trade))
    commission += costs.commission_rate * float(np.abs(trade) @ executed)
    return replace(
        account,
        cash=account.cash - float(trade @ executed) - commission,
        units=in_lots(account.units + trade, lot_size),
        commission=account.commission + commission,
        slippage=account.slippage + slipped,
    )


def night(account: Account, close: Floats, costs: TradingCosts, nights: float = 1.0) -> Account:
    """Interest and borrow fees from one close to the next.

    Free cash is cash less the value of short positions: their proceeds earn nothing.
    """
    short = -float(np.where(account.units < 0.0, close, 0.0) @ np.minimum(account.units, 0.0))
    free = account.cash - short
    rate = costs.credit_rate if free > 0.0 else costs.debit_rate
    interest = free * rate * nights / costs.days_per_year
    borrow = short * costs.borrow_rate * nights / costs.days_per_year
    return replace(
        account,
        cash=account.cash + interest - borrow,
        interest=account.interest + interest,
        borrow=account.borrow + borrow,
    )
