"""Fills as people write them: on the command line, and as lines of a table."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.cli.errors import CommandError
from server.cli.sheet import Sheet, parse_number

NEEDED = ("instrument_id", "quantity", "price")
TERMS = ("currency", "exchange_rate", "fee_currency")
"""What fills of one instrument must have in common to be booked together."""
COLUMNS = (*NEEDED, "fee", *TERMS)


@dataclass(frozen=True)
class FillLine:
    """A fill; `where` it is said. See `Fills` of the contract; here units in place of lots."""

    where: str
    instrument_id: str
    quantity: float
    price: float
    fee: float = 0.0
    currency: str = ""
    exchange_rate: float = 0.0
    fee_currency: str = ""

    @property
    def terms(self) -> tuple[str, float, str]:
        """See `TERMS`. Without a fee its currency says nothing."""
        return self.currency, self.exchange_rate, self.fee_currency


def parsed(text: str) -> FillLine:
    """A fill as it is written on the command line. Raises `CommandError`."""
    where = f"--fill {text}"
    name, equals, rest = text.partition("=")
    first, *more = rest.split(",")
    units, at, price = first.partition("@")
    extra = {key.strip(): value.strip() for key, _, value in (item.partition("=") for item in more)}
    known = COLUMNS[len(NEEDED) :]
    if not (name and equals and at) or set(extra) - set(known):
        hint = "write INSTRUMENT=UNITS@PRICE[,NAME=VALUE...], e.g. KO=1200@61.2,fee=3; names are "
        raise CommandError(f"{where} is no fill", hint + ", ".join(known))
    told: dict[str, Any] = {
        key: parse_number(value, key, where) if key in ("fee", "exchange_rate") else value
        for key, value in extra.items()
    }
    quantity, paid = parse_number(units, "quantity", where), parse_number(price, "price", where)
    return FillLine(where, name.strip(), quantity, paid, **told)


def read(path: Path) -> list[FillLine]:
    """Fills from a table. Raises `CommandError`."""
    from server.cli.sheet import read_sheet

    sheet = read_sheet(path)
    sheet.check_columns(COLUMNS, NEEDED)
    return list(lines_of(sheet))


def lines_of(sheet: Sheet) -> Iterator[FillLine]:
    """The lines of a table that has these columns, and maybe others."""
    columns = zip(
        sheet.texts("instrument_id"),
        sheet.numbers("quantity"),
        sheet.numbers("price"),
        sheet.numbers("fee", 0.0),
        sheet.texts("currency", required=False),
        sheet.numbers("exchange_rate", 0.0),
        sheet.texts("fee_currency", required=False),
        strict=True,
    )
    for row, cells in enumerate(columns):
        yield FillLine(sheet.at(row), *cells)
