"""Tables as a page shows them: values, columns, and the groups of columns that fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.store.reading import StoredCell

CLASS_COLUMNS = 8
"""Columns of cells that a table of classes shows at first."""


@dataclass(frozen=True)
class Value:
    """One table cell: `text`, a smaller `note` under it, the number or text to sort by, and a mark for the style.

    `meaning` explains the text where it stands.
    """

    text: str
    order: str = ""
    note: str = ""
    mark: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class Column:
    """One table column.  `kind` is text or num; `choices` is True when the page offers its values as a filter.

    What is `folded` is on a page only after a reader asked for it.
    """

    group: str
    title: str
    unit: str
    help: str
    kind: str
    value: Callable[[StoredCell], Value]
    choices: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Group:
    """Columns beside each other under one title, shown and folded together.

    `names` lists the titles of its columns.  `fold` numbers the groups that fold, from 1; it is 0 for one that is
    always shown.
    """

    title: str
    columns: tuple[Column, ...]
    names: str
    fold: int = 0


@dataclass(frozen=True)
class Table:
    """A table ready for the template: its columns in groups, and rows of values with their cell."""

    groups: tuple[Group, ...]
    rows: tuple[tuple[StoredCell, tuple[Value, ...]], ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns in their order."""
        return tuple(column for group in self.groups for column in group.columns)

    @property
    def places(self) -> tuple[int, ...]:
        """The fold that each column is in, in their order."""
        return tuple(group.fold for group in self.groups for _ in group.columns)


@dataclass(frozen=True)
class ClassTable:
    """mAP50-95 per class: the reference's value, and each other cell's difference with a shade from -3 to 3.

    The columns of an option fold together.
    """

    reference: StoredCell
    cells: tuple[StoredCell, ...]
    rows: tuple[tuple[str, str, tuple[Value, ...]], ...]

    @property
    def folds(self) -> tuple[str, ...]:
        """The options that have columns, in order; the first one's fold is 1."""
        return tuple(dict.fromkeys(cell.option_name for cell in self.cells))

    @property
    def places(self) -> tuple[int, ...]:
        """The fold of each cell's column."""
        return tuple(1 + self.folds.index(cell.option_name) for cell in self.cells)

    @property
    def unfolded(self) -> int:
        """How many folds are shown at first: as many as fit a page, and at least one."""
        counted = range(1, 1 + len(self.folds))
        fit = [n for n in counted if sum(place <= n for place in self.places) <= CLASS_COLUMNS]
        return max(fit, default=1)
