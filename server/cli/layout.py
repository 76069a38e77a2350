"""Tables that stay readable in 80 columns, of text that is data and never markup.

A number, an id or a word is never broken. Where a table is wider than the terminal, sentences wrap
at blanks first, then columns marked as less important are left out and named below; where even
that is too wide, each row becomes a record: one `name  value` a line. Without rows it says `none`.

Control and formatting characters (escape sequences, U+202E) are shown as escapes, so that a name
can't move the cursor, colour the screen, or turn the reading direction of what follows.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

WORD_MAX = 36
"""Cells of the longest word that is kept whole in a table, a UUID; longer ones end in `…`."""
_GAP = 2
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANK = re.compile(r"(?<!\d{4}-\d\d-\d\d) ")  # date and time stay together
_EIGHTHS = " ▏▎▍▌▋▊▉"


def visible(text: str, *, lines: bool = False) -> str:
    """The text with control and formatting characters as escapes; `lines`: line ends stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in _UNSAFE and not (lines and char == "\n")
        else char
        for char in text
    )


def bar(value: float, largest: float, width: int = 24) -> str:
    """A horizontal bar of block characters, `width` cells where value equals the largest."""
    eighths = round(8 * width * min(max(value / largest, 0.0), 1.0)) if largest > 0.0 else 0
    rest = _EIGHTHS[eighths % 8]
    return "█" * (eighths // 8) + (rest if rest != " " else "")


class Table:
    """Rows under a title; columns are right-aligned but for those in `left`.

    `drop` names columns that a narrow terminal does without, the first to go first.
    """

    def __init__(
        self, title: str, columns: Sequence[str], left: Sequence[str] = (), drop: Sequence[str] = ()
    ) -> None:
        self.title = title
        self.caption = ""
        self.rows: list[tuple[str, ...]] = []
        self._columns = tuple(columns)
        self._left = frozenset(left)
        self._drop = tuple(drop)

    def add_row(self, *cells: str) -> None:
        """One cell a column."""
        assert len(cells) == len(self._columns)
        self.rows.append(tuple(map(visible, cells)))

    def lines(self, width: int) -> list[Text]:
        """The table in at most `width` cells a line."""
        shown = list(range(len(self._columns)))
        gone: list[str] = []
        for name in self._drop:
            if self._least(shown) <= width:
                break
            if name in self._columns and self._columns.index(name) in shown:
                shown.remove(self._columns.index(name))
                gone.append(name)
        out = [Text(line, "italic") for line in _wrapped(visible(self.title), width)]
        if not self.rows:
            out += _notes("none", width)
        elif self._least(shown) <= width:
            out += self._grid(shown, self._widths(shown, width))
            if named := [name for name in gone if name]:
                out += _notes(f"not shown for lack of room: {', '.join(named)}", width)
        else:
            out += self._records(width)
        return out + (_notes(visible(self.caption), width) if self.caption else [])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.lines(options.max_width):
            line.no_wrap, line.overflow = True, "ignore"
            yield line

    def _cells(self, column: int) -> Iterator[str]:
        yield self._columns[column]
        for row in self.rows:
            yield row[column]

    def _least(self, shown: Sequence[int]) -> int:
        return sum(map(self._word, shown)) + _GAP * (len(shown) - 1)

    def _word(self, column: int) -> int:
        """Cells that keep every word of a column whole, but for very long names."""
        if self._columns[column] in self._left:
            words = (word for cell in self._cells(column) for word in _words(cell))
            return min(max(map(cell_len, words)), WORD_MAX)
        headed = max(map(cell_len, self._columns[column].split(" ")))
        return max(headed, *(cell_len(row[column]) for row in self.rows), 0)

    def _widths(self, shown: Sequence[int], width: int) -> list[int]:
        """Natural widths, the widest narrowed until the line fits."""
        least = [self._word(column) for column in shown]
        natural = [max(map(cell_len, self._cells(column))) for column in shown]
        over = sum(natural) + _GAP * (len(shown) - 1) - width
        while over > 0:
            room = [have - need for have, need in zip(natural, least, strict=True)]
            widest = max((i for i, spare in enumerate(room) if spare > 0), key=lambda i: natural[i])
            cut = min(over, room[widest], 4)
            natural[widest] -= cut
            over -= cut
        return natural

    def _grid(self, shown: Sequence[int], widths: Sequence[int]) -> list[Text]:
        out = [Text(line, "bold") for line in self._row(self._columns, shown, widths)]
        for row in self.rows:
            out += [Text(line) for line in self._row(row, shown, widths)]
        return out

    def _row(
        self, cells: Sequence[str], shown: Sequence[int], widths: Sequence[int]
    ) -> Iterator[str]:
        parts = [_wrapped(cells[i], width) for i, width in zip(shown, widths, strict=True)]
        for level in range(max(map(len, parts))):
            line = ""
            for column, part, width in zip(shown, parts, widths, strict=True):
                text = part[level] if level < len(part) else ""
                room = " " * (width - cell_len(text))
                on_left = self._columns[column] in self._left
                line += (text + room if on_left else room + text) + " " * _GAP
            yield line.rstrip()

    def _records(self, width: int) -> list[Text]:
        """One `name  value` a line, a blank line between rows; empty cells are left out."""
        label = max(map(cell_len, self._columns))
        out: list[Text] = []
        for place, row in enumerate(self.rows):
            out += [Text("")] if place else []
            for name, cell in zip(self._columns, row, strict=True):
                if not cell or not name:
                    continue
                head = set_cell_size(name, label) + " " * _GAP
                for line in _wrapped(cell, max(width - cell_len(head), 8), whole=False):
                    out.append(Text(head + line))
                    head = " " * cell_len(head)
        return out


def _words(text: str) -> list[str]:
    return _BLANK.split(text)


def _notes(text: str, width: int) -> list[Text]:
    return [Text(line, "dim") for line in _wrapped(text, width)]


def _wrapped(text: str, width: int, *, whole: bool = True) -> list[str]:
    """Lines of whole words; a word wider than a line ends in `…`, or goes on below if not whole.

    All of them begin where the text begins: what is indented stays below what it belongs to.
    """
    if cell_len(text) <= width:
        return [text]
    if indent := len(text) - len(text.lstrip(" ")):
        indent = min(indent, width // 2)
        below = _wrapped(text.lstrip(" "), width - indent, whole=whole)
        return [" " * indent + line for line in below]
    lines = [""]
    for word in _words(text):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        while cell_len(word) > width and not whole:
            piece = set_cell_size(word, width).rstrip(" ")
            lines[-1] = piece
            lines.append("")
            word = word[len(piece) :]
        lines[-1] = word if cell_len(word) <= width else set_cell_size(word, width - 1) + "…"
    return [line for line in lines if line] or [""]
