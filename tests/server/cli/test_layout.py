"""Tables at 80 columns: numbers, ids and words stay whole; names are data."""

import re
import uuid

import pytest
from rich.cells import cell_len

from server.cli.layout import Table, bar, visible

UUID = str(uuid.UUID(int=0x0192A5B4C6D87E0F9A1B2C3D4E5F6071))


def text(table: Table, width: int) -> list[str]:
    return [line.plain for line in table.lines(width)]


def decisions() -> Table:
    names = ("decision", "time", "portfolio", "strategy", "status")
    table = Table(
        "Decisions", (*names, "lines", "number"), left=names, drop=("number", "lines", "strategy")
    )
    table.add_row(UUID, "2022-12-28 21:00:00", "demo", "momentum", "capped", "20", "1,234,567")
    return table


@pytest.mark.parametrize("width", [40, 60, 80, 110, 200])
def test_no_id_or_number_breaks_and_no_line_is_too_long(width: int) -> None:
    lines = text(decisions(), width)
    assert all(cell_len(line) <= width for line in lines)
    assert any(UUID in line for line in lines) or width == 40
    assert any("2022-12-28 21:00:00" in line for line in lines)
    if width >= 110:
        assert any("1,234,567" in line for line in lines)


def test_columns_go_in_the_order_said_and_are_named() -> None:
    lines = text(decisions(), 80)
    assert "number" not in lines[1]
    assert lines[-1].startswith("not shown for lack of room: number")
    assert not any("not shown" in line for line in text(decisions(), 200))


def test_a_narrow_terminal_gets_records_with_everything() -> None:
    lines = text(decisions(), 50)
    assert f"decision   {UUID}" in lines
    assert "number     1,234,567" in lines


def test_sentences_wrap_at_blanks_and_names_are_cut_where_they_must() -> None:
    table = Table("T", ("name", "why", "amount"), left=("name", "why"))
    table.add_row("N" * 100, "a sentence that is long enough to be wrapped twice", "-1,234,567.89")
    lines = text(table, 80)
    assert all(cell_len(line) <= 80 for line in lines)
    assert any(re.search(r"N{35}… ", line) for line in lines)
    assert any(line.endswith("-1,234,567.89") for line in lines)
    words = " ".join(line[38:64] for line in lines[2:]).split()
    assert words[:4] == ["a", "sentence", "that", "is"]
    assert any("N" * 100 in line for line in text(table, 1000))


def test_names_are_data() -> None:
    table = Table("[bold]title[/]", ("name", "n"), left=("name",))
    for name in (
        "[/]",
        "[red]x[/red]",
        "\x1b[31mred\x07",
        "a\u202eb",
        "two\nlines",
        "日本" * 10,
        ":smile:",
    ):
        table.add_row(name, "1")
    lines = text(table, 80)
    assert lines[0] == "[bold]title[/]"
    assert len(lines) == 2 + 7
    assert lines[2].startswith("[/] ")
    assert r"\x1b[31mred\x07" in lines[4]
    assert r"a\u202eb" in lines[5]
    assert r"two\nlines" in lines[6]
    assert len({cell_len(line) for line in lines[2:]}) == 1


def test_what_is_visible_stays_as_it_is() -> None:
    assert visible("naïve 10 % → 5") == "naïve 10 % → 5"
    assert visible("a\nb", lines=True) == "a\nb"
    assert visible("\udcff") == r"\udcff"


def test_a_bar_is_as_long_as_its_value() -> None:
    assert bar(1.0, 1.0, 8) == "█" * 8
    assert bar(0.5, 1.0, 8) == "█" * 4
    assert bar(0.0, 0.0, 8) == ""
    assert cell_len(bar(0.49, 1.0, 8)) <= 8


@pytest.mark.parametrize("width", [20, 80])
def test_no_rows_are_an_answer(width: int) -> None:
    table = Table("Jobs", ("job", "state"), left=("job", "state"))
    assert text(table, width) == ["Jobs", "none"]
    table.caption = "start one"
    assert text(table, width) == ["Jobs", "none", "start one"]


def test_what_is_indented_stays_so_where_it_is_narrowed_or_wrapped() -> None:
    table = Table("T", ("span", "time"), left=("span",))
    table.add_row("      gather: market snapshot and matrices", "0.065 ms")
    table.add_row("server", "4.781 ms")
    for width in (48, 40, 30):
        lines = text(table, width)[2:-1]
        assert all(line.startswith("      ") and line[6] != " " for line in lines)
        told = " ".join(line.replace("0.065 ms", "").strip() for line in lines)
        assert told == "gather: market snapshot and matrices"
