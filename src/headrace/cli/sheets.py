"""A table that stays readable on a narrow terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

_GAP = 2
_LEAST_LAST = 20
_EMPTY = frozenset({"", "-"})


class Sheet:
    """Rows under a head; cells are what they are, marks of rich in a string are none.

    The last column takes what room there is, in several lines if need be, and so does the widest of the others as long as its
    words stay whole. Where little is left for the last, it stands below its row; where the others do not fit either, each row is
    a paragraph of names and values, without the empty ones.

    Args:
        columns: their names; one that begins with > has numbers.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._names = [name.removeprefix(">") for name in columns]
        self._numbers = [name.startswith(">") for name in columns]
        self._rows: list[list[Text]] = []

    def add_row(self, *cells: str | Text) -> None:
        """One more, a cell for each column."""
        self._rows.append([_one_line(cell) for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """As the width allows."""
        widths = [
            max(cell_len(name), *(row[at].cell_len for row in self._rows), 0)
            for at, name in enumerate(self._names)
        ]
        least = min(widths[-1], _LEAST_LAST)
        gaps = _GAP * (len(widths) - 1)
        self._narrow(widths, sum(widths[:-1]) + gaps + least - options.max_width)
        room = options.max_width - sum(widths[:-1]) - gaps
        if room >= least:
            yield from self._beside(console, [*widths[:-1], min(room, widths[-1])])
        elif sum(widths[:-1]) + gaps - _GAP <= options.max_width:
            yield from self._below(widths)
        else:
            yield from self._paragraphs()

    def _narrow(self, widths: list[int], excess: int) -> None:
        """Take from the widest of the other columns of words what is too much, if no word is broken by that."""
        words = [at for at, number in enumerate(self._numbers[:-1]) if not number]
        if excess <= 0 or not words:
            return
        widest = max(words, key=lambda at: widths[at])
        cells = [self._names[widest], *(row[widest].plain for row in self._rows)]
        longest = max(cell_len(word) for cell in cells for word in [*cell.split(), ""])
        if widths[widest] - excess >= longest:
            widths[widest] -= excess

    def _beside(self, console: Console, widths: Sequence[int]) -> Iterator[Text]:
        yield self._line([Text(name, "dim") for name in self._names], widths)
        for row in self._rows:
            folded = [
                list(cell.wrap(console, width, overflow="fold"))
                for cell, width in zip(row, widths, strict=True)
            ]
            for cells in zip_longest(*folded, fillvalue=Text()):
                yield self._line(cells, widths)

    def _below(self, widths: Sequence[int]) -> Iterator[Text]:
        yield self._line([Text(name, "dim") for name in self._names[:-1]], widths)
        for row in self._rows:
            yield self._line(row[:-1], widths)
            if row[-1].plain not in _EMPTY:
                yield Text.assemble("    ", (f"{self._names[-1]} ", "dim"), row[-1])

    def _paragraphs(self) -> Iterator[Text]:
        width = max(map(cell_len, self._names)) + _GAP
        for number, row in enumerate(self._rows):
            if number:
                yield Text()
            for name, cell in zip(self._names, row, strict=True):
                if cell.plain not in _EMPTY:
                    yield Text.assemble((name.ljust(width), "dim"), cell)

    def _line(self, cells: Sequence[Text], widths: Sequence[int]) -> Text:
        line = Text()
        for at, cell in enumerate(cells):
            blank = " " * (widths[at] - cell.cell_len)
            number = self._numbers[at]
            line.append(blank if number else "").append_text(cell)
            if at < len(cells) - 1:
                line.append(("" if number else blank) + " " * _GAP)
        return line


def _one_line(cell: str | Text) -> Text:
    text = Text(cell) if isinstance(cell, str) else cell.copy()
    if "\n" in text.plain:
        text.plain = " ".join(text.plain.split())
    return text
