"""Why lots were taken back: the limit that sets the bound, with its unit."""

import pytest

from compute.limits.policy import LimitKind
from server.convert.limit_words import limit_words


@pytest.mark.parametrize(
    ("kind", "bound", "name", "words"),
    [
        (LimitKind.WEIGHT_MAX, 0.12, "I18", "weight_max 12 % of I18"),
        (LimitKind.NOTIONAL_MAX, 1e6, "I18", "notional_max 1,000,000.00 in base currency of I18"),
        (LimitKind.QUANTITY_MAX, 500.0, "I18", "quantity_max 500 of I18"),
        (LimitKind.EXIT_DAYS_MAX, 2.5, "I18", "exit_days_max 2.5 of I18"),
        (LimitKind.RESTRICTED, 0.0, "I18", "restricted of I18"),
        (LimitKind.LEVERAGE_MAX, 1.6, "portfolio", "leverage_max 160 %"),
        (LimitKind.POSITIONS_MAX, 15.0, "portfolio", "positions_max 15"),
        (LimitKind.GROUP_NET_MAX, 0.1, "gB", "net_weight_max 10 % of gB"),
        (LimitKind.LINEAR, -0.3, "beta", "beta: linear -0.3"),
        (LimitKind.CASH, 5e5, "portfolio", "cash 500,000.00 in base currency"),
    ],
)
def test_a_limit_in_words_has_its_field_its_bound_and_its_unit(
    kind: LimitKind, bound: float, name: str, words: str
) -> None:
    assert limit_words(kind, bound, name) == words
