"""Rates that contradict each other are found; crosses, minor units and limits convert by hand."""

import pytest

from compute.limits.policy import InstrumentLimit, Limits, SharedLimits
from compute.market import MissingInputError
from compute.money.currency import Rate, contradictions, in_base, shared_in_base, to_base

EUR, GBP, JPY = Rate("EUR", "USD", 1.10), Rate("GBP", "USD", 1.25), Rate("USD", "JPY", 150.0)


@pytest.mark.parametrize(
    ("rates", "places"),
    [
        ([EUR, GBP, JPY], []),
        ([Rate("GBP", "GBP", 1.0)], []),
        ([Rate("GBP", "GBP", 1.5)], [0]),
        ([EUR, Rate("EUR", "USD", 1.10)], [1]),
        ([EUR, Rate("USD", "EUR", 1 / 1.10)], []),
        ([EUR, Rate("USD", "EUR", 0.905)], []),  # bid and ask
        ([EUR, Rate("USD", "EUR", 0.80)], [1]),  # 12 % apart
        ([EUR, GBP, Rate("EUR", "GBP", 0.88)], []),
        ([EUR, GBP, Rate("EUR", "GBP", 0.95)], [2]),
        ([EUR, Rate("EUR", "GBP", 0.95), GBP], [2]),
        ([Rate("GBX", "GBP", 0.01)], []),
        ([Rate("GBX", "GBP", 1.0)], [0]),
        ([Rate("GBP", "GBX", 100.0)], []),
        ([GBP, Rate("GBX", "USD", 0.0125)], []),
        ([GBP, Rate("GBX", "USD", 0.02)], [1]),
        ([Rate("GBX", "USD", 0.02), JPY, Rate("JPY", "GBP", 0.5 / 150)], []),
        # Over three others: 1 EUR is 1.2 USD over CHF, and 0.8 x 1.9 over GBP.
        ([Rate("EUR", "CHF", 1.0), Rate("CHF", "USD", 1.2), Rate("EUR", "GBP", 0.8)], []),
        (
            [
                *(Rate("EUR", "CHF", 1.0), Rate("CHF", "USD", 1.2)),
                *(Rate("EUR", "GBP", 0.8), Rate("GBP", "USD", 1.9)),
            ],
            [3],
        ),
        (
            [
                *(Rate("EUR", "CHF", 1.0), Rate("CHF", "USD", 1.2)),
                *(Rate("EUR", "GBP", 0.8), Rate("GBP", "USD", 1.5)),
            ],
            [],
        ),
    ],
)
def test_contradictions_are_found(rates: list[Rate], places: list[int]) -> None:
    assert [place for place, _ in contradictions(rates)] == places


def test_rates_to_the_base_by_hand() -> None:
    rates = [EUR, GBP, JPY]
    in_usd = to_base(rates, "USD")
    assert in_usd["EUR"] == 1.10
    assert in_usd["JPY"] == 1 / 150
    assert in_usd["GBX"] == 0.01 * 1.25
    in_eur = to_base(rates, "EUR")
    assert in_eur["USD"] == 1 / 1.10
    assert in_eur["GBP"] == 1.25 * (1 / 1.10)  # over USD
    assert in_eur["JPY"] == (1 / 150) * (1 / 1.10)
    assert to_base(rates, "GBX")["GBP"] == 100.0
    assert to_base(rates, "GBX")["USD"] == pytest.approx(80.0)
    # Two crosses away is not worked out.
    assert "CHF" not in to_base([*rates, Rate("CHF", "JPY", 170.0)], "EUR")


def test_money_of_limits_is_converted_and_fractions_are_not() -> None:
    limits = Limits(
        weight_max=0.1,
        notional_max=1500.0,
        trade_notional_min=150.0,
        instruments={"A": InstrumentLimit(weight_max=0.05, notional_max=300.0, quantity_max=7.0)},
        currency="JPY",
    )
    other = Limits(notional_max=9.0, gross_notional_max=50.0)
    rates = {"USD": 1.0, "JPY": 1 / 150}
    found = in_base(Limits(notional_max=9.0, gross_notional_max=50.0, foreign=(limits,)), rates)
    assert (found.weight_max, found.notional_max, found.gross_notional_max) == (0.1, 9.0, 50.0)
    assert found.trade_notional_min == 1.0
    assert found.instruments["A"] == InstrumentLimit(0.05, 2.0, 7.0)
    assert (found.currency, found.foreign) == (None, ())
    assert in_base(other, {}) is other
    with pytest.raises(MissingInputError, match="JPY"):
        in_base(limits, {"USD": 1.0})


def test_shared_money_names_its_currency_where_members_differ() -> None:
    bound = SharedLimits(gross_notional_max=15e6)
    assert shared_in_base(bound, {}, has_one_base=True) is bound
    with pytest.raises(MissingInputError, match="different base currencies"):
        shared_in_base(bound, {}, has_one_base=False)
    named = SharedLimits(gross_notional_max=15e6, currency="JPY")
    assert shared_in_base(named, {"JPY": 0.01}, has_one_base=False).gross_notional_max == 150e3
