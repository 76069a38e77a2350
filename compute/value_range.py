"""A range of numbers that callers may give, and the ranges that many numbers share."""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TINY = 1e-100
"""No number but 0 may be nearer to 0: what is divided by it overflows."""

PERCENT_MAX = 100.0
"""As percent a fraction is at most so many times what it may be; what is beyond is no unit."""

COUNT_MAX = 9e15
"""Beyond 2^53 a double no longer counts one by one."""


@dataclass(frozen=True)
class Range:
    """From `least` to `most`, both included; with `or_zero` also 0, where 0 stands for none."""

    least: float
    most: float
    unit: str = ""
    or_zero: bool = False
    hint: str = ""
    """Asked of who is beyond `most`, most likely by a factor of a hundred."""

    @property
    def text(self) -> str:
        """Completes 'it must be ...'."""
        zero = "0 or " if self.or_zero else ""
        return f"{zero}from {_plain(self.least)} to {_plain(self.most)}"

    def advice(self, value: float) -> str:
        """What would be right instead of `value`."""
        told = self.text + (f" ({self.unit})" if self.unit else "")
        if 0.0 < abs(value) < TINY:
            return f"{told}, and 0 rather than nearer to 0 than {_plain(TINY)}"
        is_percent = self.hint and max(self.most, 1.0) <= value <= PERCENT_MAX * max(self.most, 1.0)
        return f"{told}; {self.hint}" if is_percent else told

    def holds(self, values: Floats) -> bool:
        """Whether all are inside; NaN is not."""
        low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
        if self.least <= low and high <= self.most and (low > TINY or high < -TINY):
            return True
        return not self.wrong(values).any()

    def wrong(self, values: Floats) -> NDArray[np.bool_]:
        """Which are outside, NaN among them."""
        inside = (values >= self.least) & (values <= self.most) & (np.abs(values) >= TINY)
        zero = self.or_zero or self.least <= 0.0 <= self.most
        return ~(inside | (values == 0.0)) if zero else ~inside


def _plain(number: float) -> str:
    """As people write it: 0.05, 1e9, 1e-6."""
    text = f"{number:.12g}"
    if "e" not in text and abs(number) >= 1e6 and number == float(f"{number:.3g}"):
        text = f"{number:.0e}" if number == float(f"{number:.0e}") else f"{number:.2e}"
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


PERCENT = "is this percent? 12 % is 0.12"
SMALL, LARGE = 1e-9, 1e9
NEAR_0, NEAR_1 = 1e-6, 0.999999
WEIGHT = Range(0.0, LARGE, "a fraction of equity; 5 % is 0.05")
SIGNED_WEIGHT = Range(-LARGE, LARGE, "a fraction of equity; 5 % is 0.05")
MONEY = Range(0.0, 1e18, "money")
STOP = Range(1e-12, 1e12, "a price, or 0 for none", or_zero=True)
RETURN = Range(-1.0, 1.0, "a return per period, as a fraction", hint=PERCENT)
RATE = Range(0.0, 0.5, "a fraction", hint=PERCENT)
ANNUAL = Range(0.0, 1.0, "a rate a year, as a fraction", hint=PERCENT)
SHARE = Range(0.0, 1e6, "a share of daily volume")
PROBABILITY = Range(0.0, 1.0, "a probability", hint=PERCENT)
UNIT = Range(0.0, 1.0, "a coefficient")
INNER = Range(NEAR_0, NEAR_1, "a fraction", hint=PERCENT)
LEVELS = Range(0.5, 0.99999, "a confidence level", hint=PERCENT)
RISK = Range(SMALL, LARGE, "a fraction of equity; 5 % is 0.05")
NUMBER = Range(-LARGE, LARGE)
POSITIVE = Range(SMALL, LARGE)
NONNEGATIVE = Range(0.0, LARGE)
MULTIPLIER = Range(1e-6, 1e6, "a multiplier")
VERSION = Range(0, COUNT_MAX, "a version")
PAGE = Range(0, 2**31 - 1, "entries")


def ranged(default: float | None, allowed: Range) -> Any:
    """A field of a dataclass that is a number in a range."""
    return field(default=default, metadata={"range": allowed})


def ranges_of(message: str, record: type) -> dict[str, Range]:
    """The ranges of the fields of a dataclass, by message and field of the contract."""
    return {
        f"{message}.{item.name}": item.metadata["range"]
        for item in fields(record)
        if item.metadata.get("range") is not None
    }
